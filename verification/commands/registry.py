"""The registered theorems, with the user's mistakes answered in one line."""

import difflib

from dsnn.errors import UserError
from theory import Theorem, theorems


def registered() -> dict[str, Theorem]:
    """All theorems by id. Raises UserError where a package registers something else."""
    try:
        return theorems()
    except (ValueError, ImportError, AttributeError) as error:
        raise UserError(f"the registered theorems cannot be loaded: {error}") from error


def find(wanted: str) -> Theorem:
    """The theorem of this id. Raises UserError that names close ones."""
    known = registered()
    if wanted in known:
        return known[wanted]
    close = [name for name in known if wanted and name.lower().startswith(wanted.lower())]
    lowered = {name.lower(): name for name in known}
    close += [lowered[name] for name in difflib.get_close_matches(wanted.lower(), lowered)]
    hint = f"did you mean {' or '.join(dict.fromkeys(close))}?" if close else ""
    raise UserError(f"no theorem is called {wanted!r}: {hint or 'see dsnn theory list'}")
