//! Sockets, TLS and connections to providers. Knows nothing of LLMs.
