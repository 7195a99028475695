//! Tokens to money, and the most that a request can cost. Pure.
