//! Keys: those of other people, fetched and cached.
