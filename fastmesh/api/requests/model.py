"""What every model of a request keeps to: types as they are written, and no key that it does not know.  An option that
is not built does not exist: it is refused by its name."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

MAX_INTEGER: Final = 2**53 - 1  # over it readers of JSON disagree which number it is (RFC 8259, section 6)


class Strict(BaseModel):
    """Types as they are written, no unknown keys."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


# JSON has one kind of number: 16.0 is 16, and what is over 64 bits is read as a float.
Whole = BeforeValidator(_whole)
UpTo = Annotated[int, Field(ge=0, le=MAX_INTEGER), Whole]  # where a setting says how many are allowed
