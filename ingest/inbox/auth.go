package inbox

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
)

// auth is one handshake's use of a login: the key first, then the password, each of them once.
// A server that refused a password counts it, and locks the account after a few.
type auth struct {
	*login
	user        string
	mayPassword bool // a bastion never gets the password
	triedKeys   bool
	triedPass   bool
	keyAccepted bool     // and the server demands more
	passTaken   bool     // the same of the password
	demands     []string // what the server demanded at last
	ended       bool     // there was nothing left to try
}

func (l *login) begin(user string, password bool) *auth {
	return &auth{login: l, user: user, mayPassword: password}
}

// next is an ssh.ClientAuthCallback.
func (a *auth) next(c *ssh.ClientAuthContext) (ssh.AuthMethod, error) {
	a.demands = c.AllowedMethods
	a.keyAccepted = slices.Contains(c.PartialSuccessMethods, "publickey")
	a.passTaken = slices.Contains(c.PartialSuccessMethods, "password") || slices.Contains(c.PartialSuccessMethods, "keyboard-interactive")
	allowed := func(method string) bool { return slices.Contains(c.AllowedMethods, method) }
	if len(a.keys) > 0 && !a.triedKeys && allowed("publickey") {
		a.triedKeys = true
		return ssh.PublicKeys(a.keys...), nil
	}
	if a.password != "" && a.mayPassword && !a.triedPass {
		switch {
		case allowed("password"):
			a.triedPass = true
			return ssh.Password(a.password), nil
		case allowed("keyboard-interactive"):
			a.triedPass = true
			return ssh.KeyboardInteractive(answer(a.password)), nil
		}
	}
	a.ended = true
	return nil, errors.New("no login method is left")
}

// answer returns the password to a server that asks for it by keyboard-interactive
// authentication: once, and only if the question hides what is typed.
func answer(password string) ssh.KeyboardInteractiveChallenge {
	asked := false
	return func(_, _ string, questions []string, echos []bool) ([]string, error) {
		switch {
		case len(questions) == 0:
			return nil, nil
		case len(questions) > 1 || echos[0] || asked:
			return nil, errors.New("the server asks for more than a password")
		}
		asked = true
		return []string{password}, nil
	}
}

// decided reports whether an error of the handshake is a refusal of the login. If the connection
// ended after the password was sent, it counts as one: the server may have counted it.
func (a *auth) decided(err error) bool {
	text := err.Error() // the library has no types for these
	return a.ended || a.triedPass || strings.Contains(text, "unable to authenticate") ||
		strings.Contains(text, "unexpected message type 51") || // it refuses a login (RFC 4252, section 5.1)
		a.triedKeys && strings.Contains(text, "Too many authentication failures")
}

// refusal is the error of a login that was refused.
func (a *auth) refusal(op string) error {
	var tried, hints []string
	if a.triedKeys {
		tried, hints = append(tried, a.keyText), append(hints, a.keyHint(a.user))
	}
	if a.triedPass {
		tried = append(tried, "password of "+a.passFile)
		hints = append(hints, fmt.Sprintf("check the password of %q with the server's operator", a.user))
	}
	demands := strings.Join(a.demands, ", ")
	e := &Error{Op: op, Kind: ErrLogin, Err: fmt.Errorf("user %q with %s", a.user, strings.Join(tried, " and ")), Hint: strings.Join(hints, ", or ")}
	switch {
	case a.keyAccepted && a.triedPass:
		e.Err = fmt.Errorf("user %q: the server accepted %s, and refused the password of %s", a.user, a.keyText, a.passFile)
		e.Hint = hints[len(hints)-1]
	case a.keyAccepted && a.password != "":
		e.Err = fmt.Errorf("user %q: the server accepted %s, and demands more (%s)", a.user, a.keyText, demands)
		e.Hint = "ask its operator for an account that needs a key alone"
	case a.keyAccepted:
		e.Err = fmt.Errorf("user %q: the server accepted %s, and demands a password too (%s)", a.user, a.keyText, demands)
		e.Hint = "name a file with the password in sftp.password_file, beside private_key_file"
	case a.passTaken:
		e.Err = fmt.Errorf("user %q: the server accepted the password of %s, and demands more (%s)", a.user, a.passFile, demands)
		e.Hint = "name a key in sftp.private_key_file, beside password_file"
	case len(tried) == 0 && !a.mayPassword && a.password != "":
		e.Err = fmt.Errorf("user %q: the bastion admits only %s, and never gets the password", a.user, demands)
		e.Hint = "name a key in sftp.private_key_file that the bastion admits"
	case len(tried) == 0:
		e.Err = fmt.Errorf("user %q: the server admits only %s", a.user, demands)
		e.Hint = "set sftp.private_key_file or sftp.password_file, whichever it admits"
	}
	return e
}
