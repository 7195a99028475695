//! May this call go ahead, may it go on: rules, counters and the purse. Pure.
