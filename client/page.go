package client

import (
	"bytes"
	"fmt"
	"html"
	"net/http"
	"regexp"
	"strconv"
	"strings"
)

const (
	maxPageTitle = 100 // bytes of a page's title that are kept
	maxServer    = 32  // bytes of a server's name that are kept
)

var (
	// pageTitle and pageHeading match what a page says that it is. HAProxy's pages have a
	// heading alone.
	pageTitle   = regexp.MustCompile(`(?is)<title[^>]*>(.*?)</title`)
	pageHeading = regexp.MustCompile(`(?is)<h1[^>]*>(.*?)</h1`)
	tag         = regexp.MustCompile(`<[^>]*>`)
	// serverName matches the product in a Server header (RFC 9110, section 10.2.4), without
	// its version.
	serverName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9._-]*`)
)

// isPage reports whether the body is HTML. The API itself answers JSON, so a page comes from
// a gateway in front of it.
func isPage(r *result) bool {
	return strings.Contains(strings.ToLower(r.header.Get("Content-Type")), "html") || bytes.HasPrefix(bytes.TrimSpace(r.body), []byte("<"))
}

// readPage returns the title of an HTML page, without the status that it begins with as a
// rule, or "".
func readPage(r *result) string {
	found := pageTitle.FindSubmatch(r.body)
	if found == nil {
		found = pageHeading.FindSubmatch(r.body)
	}
	if found == nil {
		return ""
	}
	title := html.UnescapeString(tag.ReplaceAllString(string(found[1]), " "))
	title = strings.TrimPrefix(r.clean(title, maxPageTitle), strconv.Itoa(r.status))
	return strings.TrimLeft(title, " -:|")
}

// readServer returns the name of the software that answered, or "".
func readServer(r *result) string {
	name := serverName.FindString(r.clean(r.header.Get("Server"), maxTitle))
	return name[:min(len(name), maxServer)]
}

// Reason returns in a few words why there is no usable answer: "dial tcp 10.0.0.7:443:
// connect: connection refused", "413 from nginx: Request Entity Too Large", "503 Service
// Unavailable". Of the texts of an answer it quotes the title of a page and the name of the
// server, and nothing of a problem document, which may repeat what was sent.
func (a Answer) Reason() string {
	switch {
	case a.Status == 0 && a.Err == nil:
		return a.Label()
	case a.Status == 0:
		return reasonOf(a.Err)
	}
	what := a.Page
	if what == "" {
		what = http.StatusText(a.Status)
	}
	switch {
	case a.Server != "" && what != "":
		return fmt.Sprintf("%d from %s: %s", a.Status, a.Server, what)
	case a.Server != "":
		return fmt.Sprintf("%d from %s", a.Status, a.Server)
	case a.Page != "":
		return fmt.Sprintf("%d: %s", a.Status, what)
	}
	return strings.TrimSpace(fmt.Sprintf("%d %s", a.Status, what))
}
