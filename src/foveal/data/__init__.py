"""Data in and out: folders, tables, conversations and archives, in the shapes the field uses."""

from foveal.data.reopen import read
from foveal.data.sources import Broken, Source, open_source

__all__ = ["Broken", "Source", "open_source", "read"]
class ExportReport: ...
def export(*a, **k): ...
