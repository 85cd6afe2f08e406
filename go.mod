module billdrop

go 1.26.0
