"""lab.files, under the name it had here."""

from lab.files import PROFILES, ROOT, replacing, shown, write_json, write_text

__all__ = ["PROFILES", "ROOT", "replacing", "shown", "write_json", "write_text"]
