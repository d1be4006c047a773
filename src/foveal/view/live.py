def LiveDisplay(p): return None
