package inbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// maxSecretFile bounds key and password files, in bytes. A larger file was named by mistake.
const maxSecretFile = 64 << 10

// login is how the user authenticates.
type login struct {
	methods []ssh.AuthMethod
	shown   string // for error texts: which key or password, never the secret itself
	hint    string // what to do when it is refused
	done    func() // releases the agent
}

// readLogin prepares the login of cfg: its key, its password, both if both are given, and
// otherwise the SSH agent. Its errors wrap ErrConfig. The agent has to answer before the
// deadline.
func readLogin(ctx context.Context, op string, cfg Config, deadline time.Time) (*login, error) {
	l := &login{done: func() {}}
	if cfg.PrivateKeyFile == "" && cfg.PasswordFile == "" {
		return l, l.useAgent(ctx, op, cfg.User, deadline)
	}
	if cfg.PrivateKeyFile != "" {
		if err := l.useKey(op, cfg); err != nil {
			return nil, err
		}
	}
	if cfg.PasswordFile != "" {
		if err := l.usePassword(op, cfg); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// describe adds to the texts about the login.
func (l *login) describe(shown, hint string) {
	if l.shown != "" {
		shown, hint = l.shown+" and "+shown, l.hint+", or "+hint
	}
	l.shown, l.hint = shown, hint
}

func (l *login) useKey(op string, cfg Config) error {
	file := cfg.PrivateKeyFile
	text, err := readSecret(op, "private key", file)
	if err != nil {
		return err
	}
	signer, err := ssh.ParsePrivateKey(text)
	var locked *ssh.PassphraseMissingError
	switch {
	case errors.As(err, &locked):
		return &Error{
			Op: op, Kind: ErrConfig, Err: fmt.Errorf("private key file %s is encrypted with a passphrase", file),
			Hint: "give billdrop a key of its own without a passphrase, remove the passphrase from a copy (ssh-keygen -p), or use the SSH agent",
		}
	case err != nil:
		// The parser's error is dropped: it may quote what it read.
		return &Error{
			Op: op, Kind: ErrConfig, Err: fmt.Errorf("private key file %s does not hold a readable private key", file),
			Hint: "make a key: ssh-keygen -t ed25519 -N '' -f FILE; the file without .pub is the private key",
		}
	}
	l.methods = append(l.methods, ssh.PublicKeys(signer))
	l.describe(fmt.Sprintf("key %s (%s)", file, ssh.FingerprintSHA256(signer.PublicKey())),
		fmt.Sprintf("add the public half of the key to the authorized keys of %q on the server", cfg.User))
	return nil
}

func (l *login) usePassword(op string, cfg Config) error {
	file := cfg.PasswordFile
	text, err := readSecret(op, "password", file)
	if err != nil {
		return err
	}
	password := string(bytes.TrimRight(text, "\r\n"))
	if password == "" || strings.ContainsAny(password, "\r\n") {
		return &Error{
			Op: op, Kind: ErrConfig, Err: fmt.Errorf("password file %s does not hold exactly one line", file),
			Hint: "write the password into it, and nothing else",
		}
	}
	l.methods = append(l.methods, ssh.Password(password), ssh.KeyboardInteractive(answer(password)))
	l.describe("password of "+file, fmt.Sprintf("check the password of %q with the server's operator", cfg.User))
	return nil
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

func (l *login) useAgent(ctx context.Context, op, user string, deadline time.Time) error {
	const how = "start one and add a key (ssh-add), or set sftp.private_key_file or sftp.password_file"
	socket := os.Getenv("SSH_AUTH_SOCK")
	if socket == "" {
		return &Error{
			Op: op, Kind: ErrConfig, Hint: how,
			Err: errors.New("neither a private key nor a password file is given, and there is no SSH agent (SSH_AUTH_SOCK is not set)"),
		}
	}
	conn, err := (&net.Dialer{Deadline: deadline}).DialContext(ctx, "unix", socket)
	if err != nil {
		return &Error{Op: op, Kind: ErrConfig, Hint: how, Err: fmt.Errorf("reach the SSH agent: %w", err)}
	}
	release := context.AfterFunc(ctx, func() { conn.Close() })
	l.done = func() { release(); conn.Close() }
	if err := conn.SetDeadline(deadline); err != nil {
		l.done()
		return &Error{Op: op, Kind: ErrConfig, Hint: how, Err: fmt.Errorf("reach the SSH agent: %w", err)}
	}
	signers, err := agent.NewClient(conn).Signers()
	if err == nil && len(signers) == 0 {
		err = errors.New("it holds no keys")
	}
	if err != nil {
		l.done()
		return &Error{Op: op, Kind: ErrConfig, Hint: how, Err: fmt.Errorf("ask the SSH agent for its keys: %w", err)}
	}
	l.methods = append(l.methods, ssh.PublicKeys(signers...))
	l.describe(fmt.Sprintf("the %d keys of the SSH agent", len(signers)),
		fmt.Sprintf("add the public half of one of them to the authorized keys of %q on the server", user))
	return nil
}

// readSecret reads a file that its owner alone may read. Its errors wrap ErrConfig.
func readSecret(op, what, file string) ([]byte, error) {
	fail := func(err error, hint string) error {
		return &Error{Op: op, Kind: ErrConfig, Err: err, Hint: hint}
	}
	info, err := os.Stat(file)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, fail(fmt.Errorf("%s file %s is missing", what, file), "create it, or correct its path")
	case err != nil:
		return nil, fail(fmt.Errorf("%s file: %w", what, err), "let billdrop's user read it")
	case !info.Mode().IsRegular():
		return nil, fail(fmt.Errorf("%s file %s is not a regular file", what, file), "correct its path")
	case info.Size() > maxSecretFile:
		return nil, fail(fmt.Errorf("%s file %s is larger than %d KiB", what, file, maxSecretFile>>10), "correct its path")
	case Exposed(info):
		return nil, fail(fmt.Errorf("%s file %s is readable by others (mode %04o)", what, file, info.Mode().Perm()), "chmod 600 "+file)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fail(fmt.Errorf("%s file: %w", what, err), "let billdrop's user read it")
	}
	return text, nil
}
