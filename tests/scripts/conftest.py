"""Settings for the tests of this room."""

from tests.inference.conftest import one_thread  # noqa: F401 - used by every test here
