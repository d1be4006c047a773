def write_report(p):
    return None
