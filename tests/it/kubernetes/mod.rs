//! Injection into pods.

mod webhook;
