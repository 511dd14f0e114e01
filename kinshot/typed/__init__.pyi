"""Lists of parts for type checkers, written by `make api`; nothing here is imported when kinshot runs."""
