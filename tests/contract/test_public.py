"""What `import foveal` offers is what it says, sorted."""

from __future__ import annotations

import foveal


def test_all_is_sorted_and_true() -> None:
    assert foveal.__all__ == sorted(foveal.__all__)
    for name in foveal.__all__:
        assert getattr(foveal, name) is not None


def test_names_have_documentation() -> None:
    for name in foveal.__all__:
        assert getattr(foveal, name).__doc__, name
