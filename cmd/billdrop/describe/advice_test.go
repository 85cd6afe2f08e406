package describe

import (
	"errors"
	"fmt"
	"slices"
	"testing"
)

func TestAdvice(t *testing.T) {
	plain := errors.New("plain")
	one, two := Advise(plain, "do %d", 1), Advise(plain, "do 2")
	for name, c := range map[string]struct {
		err  error
		want []string
	}{
		"none":      {nil, nil},
		"plain":     {fmt.Errorf("x: %w", plain), nil},
		"wrapped":   {fmt.Errorf("x: %w", one), []string{"do 1"}},
		"outermost": {Advise(one, "do 3"), []string{"do 3"}},
		"joined":    {errors.Join(one, plain, fmt.Errorf("x: %w", two)), []string{"do 1", "do 2"}},
		"repeated":  {fmt.Errorf("%w, %w", one, errors.Join(one, two)), []string{"do 1", "do 2"}},
		"empty":     {Advise(one, ""), []string{"do 1"}},
	} {
		if got := Advice(c.err); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
		if c.err != nil && !errors.Is(c.err, plain) {
			t.Errorf("%s: the error is lost", name)
		}
	}
}
