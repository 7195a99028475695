//! The composition root: builds every part and gives each the handles it needs.
