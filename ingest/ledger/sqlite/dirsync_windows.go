package sqlite

// syncDirectory does nothing: Windows journals names by itself and has no call for it.
func syncDirectory(string) error { return nil }
