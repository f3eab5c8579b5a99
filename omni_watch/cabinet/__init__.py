"""Models that arrive as files: which ones, from where, under which licence, and is the copy here the right one."""

from omni_watch.cabinet.cabinet import Cabinet, Step, lacking
from omni_watch.cabinet.standing import Standing, State
from omni_watch.cabinet.table import DerivedFile, ModelFile, Package, Table

__all__ = ["Cabinet", "DerivedFile", "ModelFile", "Package", "Standing", "State", "Step", "Table", "lacking"]
