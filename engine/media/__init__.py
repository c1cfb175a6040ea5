"""Pictures and animations out: encoders, the recipe inside every file, the size ladder, and contact sheets.

Pixels are uint8 arrays (H, W, 3) RGB, an animation is a sequence of them.  The same pixels give the same bytes.
"""

from engine.media.encode import encode, encode_animation, encode_still
from engine.media.fit import fit
from engine.media.metadata import read_recipe, without_recipe
from engine.media.sheet import grid

__all__ = ["encode", "encode_animation", "encode_still", "fit", "grid", "read_recipe", "without_recipe"]
