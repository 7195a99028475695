//! Mock providers: every dialect, scripted timing, faults.
