//! `/metrics`, `/livez`, `/readyz` and `/status` on their own listener.
