//! What was reserved and spent, kept across crashes: the journal and the books behind it.
