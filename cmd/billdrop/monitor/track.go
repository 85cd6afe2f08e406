package monitor

import (
	"fmt"
	"strings"
	"time"
)

// mostPoints bounds the points of a track.
const mostPoints = 60

// point is how many rows were done at a moment.
type point struct {
	at   time.Time
	done int
}

// track follows a file from when its rows were first sent here: often at first, and less often the
// longer it takes. It may not be used concurrently.
type track struct {
	points []point
	step   time.Duration // between points, at least
}

// firstStep is the shortest time between two points.
const firstStep = time.Second

func (t *track) add(now time.Time, done int) {
	if n := len(t.points); n > 0 && now.Sub(t.points[n-1].at) < max(t.step, firstStep) {
		return
	}
	if len(t.points) == mostPoints {
		t.step = 2 * max(t.step, firstStep)
		kept := t.points[:0]
		for i, p := range t.points {
			if i%2 == 0 {
				kept = append(kept, p)
			}
		}
		t.points = kept
	}
	t.points = append(t.points, point{now, done})
}

// pacePicture is the pace of a file under way. Its outline stands in a view box of paceWidth by
// picHeight, which is stretched to the room that there is.
type pacePicture struct {
	Outline string // a path of SVG
	Since   time.Time
	Most    int // rows a second
	Steps   []paceStep
}

// paceStep is the pace between two points.
type paceStep struct {
	From, To time.Time
	Rows     int
	Rate     int // rows a second
}

const paceWidth = 300

// picture draws the track up to now; nil if there is too little of it.
func (t *track) picture(now time.Time, done int) *pacePicture {
	points := t.points
	if n := len(points); n > 0 && now.Sub(points[n-1].at) >= firstStep {
		points = append(points[:n:n], point{now, done})
	}
	if len(points) < 3 {
		return nil
	}
	p := &pacePicture{Since: points[0].at}
	rates := make([]float64, 0, len(points))
	highest := 0.0
	for i, to := range points[1:] {
		from := points[i]
		rate := max(0, float64(to.done-from.done)) / to.at.Sub(from.at).Seconds()
		rates = append(rates, rate)
		highest = max(highest, rate)
		p.Steps = append(p.Steps, paceStep{from.at, to.at, to.done - from.done, int(rate + 0.5)})
	}
	p.Most = int(highest + 0.5)
	whole := points[len(points)-1].at.Sub(points[0].at).Seconds()
	x := func(at time.Time) float64 { return at.Sub(points[0].at).Seconds() / whole * paceWidth }
	var b strings.Builder
	fmt.Fprintf(&b, "M0 %d", picHeight)
	for i, rate := range rates {
		y := float64(picHeight)
		if highest > 0 {
			y -= rate / highest * picHeight
		}
		fmt.Fprintf(&b, "V%.1fH%.1f", y, x(points[i+1].at))
	}
	fmt.Fprintf(&b, "V%dZ", picHeight)
	p.Outline = b.String()
	return p
}
