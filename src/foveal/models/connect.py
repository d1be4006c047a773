from __future__ import annotations
from pathlib import Path
from typing import Any
import pydantic
class ModelSpec(pydantic.BaseModel):
    model: str = ""
    url: str | list[str] | None = None
    sampling: dict[str, Any] = {}
    price: dict[str, float] | None = None
def spec_of(s: str | ModelSpec) -> ModelSpec:
    return s if isinstance(s, ModelSpec) else ModelSpec(model=s)
def connect(s: Any) -> Any:
    from foveal.models.scripted import Scripted
    return Scripted.load(Path(s.model.split(":")[1]))
