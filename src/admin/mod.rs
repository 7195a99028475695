//! The admin listener: status page, metrics, API.
