"""The keys of the screen on which texts are generated at once: a race, or the texts of one batch."""

from __future__ import annotations

from tdiff.tui.key import Key

RACE_KEYS = (
    Key("race_close", "q,escape,ctrl+c,ctrl+q", "close the race or the texts", "texts", "close", "close"),
    Key("race_pause", "space", "pause or resume", "texts", "pause", "pause"),
    Key("race_back", "left,h", "one model call back", "texts", "step", "step(-1)"),
    Key("race_forward", "right,l", "one model call forward", "texts", "step", "step(1)"),
    Key("race_leap_back", "shift+left,H,pageup", "a tenth back", "texts", "", "leap(-1)"),
    Key("race_leap_forward", "shift+right,L,pagedown", "a tenth forward", "texts", "", "leap(1)"),
    Key("race_first", "home,circumflex_accent", "go to the beginning", "texts", "", "first"),
    Key("race_live", "end,G", "go to the live edge", "texts", "live", "live"),
    Key("race_replay", "r", "replay all texts from the beginning", "texts", "replay", "replay"),
    Key("race_axis", "t", "in step by model calls, or by time", "texts", "calls/time", "axis"),
    Key("race_zoom", "enter,z", "show one text alone, or all again", "texts", "zoom", "zoom"),
    Key("race_next", "tab,down,j", "the next text", "texts", "", "select(1)"),
    Key("race_previous", "shift+tab,up,k", "the previous text", "texts", "", "select(-1)"),
    Key("race_new", "n", "other texts: the next row of the seed", "texts", "new", "new"),
    Key("race_count", "s", "four texts of one batch, or nine", "texts", "", "count"),
    Key("race_save", "x", "save the trace of every text", "texts", "save", "save"),
    Key("race_lens", "c", "look at a position of all texts; arrows move, h and l step", "texts", "lens", "lens"),
    Key("race_mark", "v", "select from the cursor on, or end the selection", "texts", "select", "mark"),
    Key("race_remask", "m", "remask the selection; the branch is beside its text", "texts", "remask", "remask"),
    Key("race_edit", "e", "write over the selection; the branch is beside its text", "texts", "edit", "edit"),
    Key("race_undo", "u", "remove the selected branch", "texts", "undo", "undo"),
    Key("race_suspend", "ctrl+z", "suspend, as in a shell; fg resumes", "texts", "", "app.suspend_process"),
)
"""Every key of the screen."""

LENS_KEYS = frozenset({"race_lens", "race_mark", "race_remask", "race_edit", "race_undo"})
"""Ids of the keys whose hints come first while the lens is on. Only the first has a hint otherwise."""
