//! Providers' wire formats: bytes in, facts out. Pure.
