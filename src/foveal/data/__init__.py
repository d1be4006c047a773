"""Data in and out: folders, tables, conversations and archives, in the shapes the field uses."""

from foveal.data.exports import EXPORTS, Export, ExportReport, export
from foveal.data.reopen import read
from foveal.data.sources import Broken, Source, open_source

__all__ = ["EXPORTS", "Broken", "Export", "ExportReport", "Source", "export", "open_source", "read"]
