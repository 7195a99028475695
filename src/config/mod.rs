//! The configuration file as a whole: the only module that knows every section.
