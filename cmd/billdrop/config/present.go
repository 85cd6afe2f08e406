package config

import "time"

const (
	presentNone    = "none"
	presentRequest = "payment_request"

	expiresDueDate = "due_date"
	// defaultExpires is when a link expires where that was not set, and of a bill whose due date
	// is missing or over.
	defaultExpires = 720 * time.Hour
	minExpires     = time.Hour
	maxExpires     = 10 * 8760 * time.Hour
)

// Presenting is how bills are presented; see delivery.Presenting.
type Presenting struct {
	Expires time.Duration
	DueDate bool
	Zone    *time.Location
}

// Presenting is how the feed's bills are presented; nil = they are not. The configuration was
// checked.
func (f *Feed) Presenting() *Presenting {
	if f.Present != presentRequest {
		return nil
	}
	p := &Presenting{Expires: defaultExpires, DueDate: f.PresentExpires == expiresDueDate, Zone: f.zone()}
	if d, err := time.ParseDuration(f.PresentExpires); err == nil {
		p.Expires = d
	}
	return p
}

// checkPresent checks how a feed's bills are presented.
func (k *checker) checkPresent(at string, f *Feed) {
	if f.Present != presentNone && f.Present != presentRequest {
		k.problem(join(at, "present"), "is not valid; write none or payment_request")
	}
	if f.PresentExpires == expiresDueDate {
		return
	}
	if d, err := time.ParseDuration(f.PresentExpires); err != nil || d < minExpires || d > maxExpires {
		k.problem(join(at, "present_expires"), "is not valid; write a duration of at least 1h, such as 720h, or due_date")
	}
}
