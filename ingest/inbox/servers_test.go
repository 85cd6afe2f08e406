//go:build servers && unix

package inbox_test

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"billdrop/client/servertest"
	"billdrop/ingest/inbox"
	"billdrop/ingest/inbox/sftpserver/opensshtest"

	"github.com/skeema/knownhosts"
	"golang.org/x/crypto/ssh"
)

// testPasswordHash is testPassword as crypt(3) has it: openssl passwd -6 -salt billdrop.
const testPasswordHash = "$6$billdrop$KdvbA5rlyYITOYip85fjRof7qscJmy1gZiV2ujegMwJ2fFTQJUknPQz84MzK6wkMGvFPcgjAtzIGmSHhSTcDl0"

// real is a server of another make, which runs until the test ends.
type real struct {
	*remote
	*servertest.Running
}

// startReal runs a server with an RSA host key, whose file program gets, on an empty directory.
func startReal(t *testing.T, root string, program func(dir, hostKey string) servertest.Program) *real {
	t.Helper()
	private, signer := newKey(t, "rsa")
	dir, secrets := t.TempDir(), t.TempDir()
	hostKey := writeFile(t, filepath.Join(secrets, "host_rsa"), string(pem.EncodeToMemory(&pem.Block{
		Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(private.(*rsa.PrivateKey)),
	})))
	running := servertest.Start(t, program(dir, hostKey))
	if root == "" {
		root = dir
	}
	return &real{Running: running, remote: &remote{
		root: root, local: dir,
		cfg: inbox.Config{
			Address:        running.Address,
			User:           testUser,
			PasswordFile:   writeFile(t, filepath.Join(secrets, "password"), testPassword+"\n"),
			KnownHostsFile: writeFile(t, filepath.Join(secrets, "known_hosts"), knownhosts.Line([]string{running.Address}, signer.PublicKey())+"\n"),
			Timeout:        30 * time.Second,
		},
	}}
}

// proftpd is ProFTPD with mod_sftp, with further lines of its configuration. The account may also
// log in with the key, if there is one.
func proftpd(t *testing.T, key ssh.PublicKey, lines ...string) *real {
	t.Helper()
	servertest.Require(t, "/usr/lib/proftpd/mod_sftp.so", "proftpd-mod-crypto")
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	group, err := user.LookupGroupId(me.Gid)
	if err != nil {
		t.Fatal(err)
	}
	secrets := t.TempDir()
	if key != nil {
		keys := filepath.Join(secrets, "keys")
		text := base64.StdEncoding.EncodeToString(key.Marshal())
		var b strings.Builder
		for chunk := range slices.Chunk([]byte(text), 70) { // RFC 4716
			fmt.Fprintf(&b, "%s\n", chunk)
		}
		writeFile(t, keys, "---- BEGIN SSH2 PUBLIC KEY ----\n"+b.String()+"---- END SSH2 PUBLIC KEY ----\n")
		lines = append(lines, "SFTPAuthorizedUserKeys file:"+keys)
	}
	return startReal(t, "", func(dir, hostKey string) servertest.Program {
		passwd := writeFile(t, filepath.Join(secrets, "passwd"),
			fmt.Sprintf("%s:%s:%s:%s::%s:/bin/sh\n", testUser, testPasswordHash, me.Uid, me.Gid, dir))
		return servertest.Program{
			Path: "/usr/sbin/proftpd", Package: "proftpd-core proftpd-mod-crypto",
			Args: func(port int) ([]string, []string) {
				conf := writeFile(t, filepath.Join(secrets, "proftpd.conf"), strings.Join(append([]string{
					"ModulePath /usr/lib/proftpd",
					"LoadModule mod_sftp.c",
					"ServerType standalone",
					"ServerName test",
					"Port " + strconv.Itoa(port),
					"DefaultAddress 127.0.0.1",
					"UseIPv6 off",
					"UseReverseDNS off",
					"User " + me.Username,
					"Group " + group.Name,
					"RootLogin on",
					"RequireValidShell off",
					"PidFile " + filepath.Join(secrets, "pid"),
					"ScoreboardFile " + filepath.Join(secrets, "scoreboard"),
					"DelayEngine off",
					"WtmpLog off",
					"TransferLog none",
					"AuthOrder mod_auth_file.c",
					"AuthUserFile " + passwd,
					"AllowOverwrite on",
					"SFTPEngine on",
					"SFTPLog " + filepath.Join(secrets, "log"),
					"SFTPHostKey " + hostKey,
					"<Directory />", "AllowOverwrite on", "</Directory>",
				}, lines...), "\n")+"\n")
				return []string{"-n", "-q", "-c", conf}, nil
			},
		}
	})
}

func rclone(t *testing.T) *real {
	t.Helper()
	return startReal(t, "/", func(dir, hostKey string) servertest.Program {
		return servertest.Program{
			Path: "/usr/bin/rclone", Package: "rclone",
			Args: func(port int) (args, env []string) {
				return []string{
					"serve", "sftp", dir, "--addr", "127.0.0.1:" + strconv.Itoa(port), "--user", testUser, "--pass", testPassword, "--key", hostKey,
					"--dir-cache-time", "0s",
				}, []string{"RCLONE_CONFIG=/dev/null"}
			},
		}
	})
}

// python runs a script of testdata, a server of a library of that name.
func python(t *testing.T, library string, more ...string) *real {
	t.Helper()
	servertest.Require(t, "/usr/lib/python3/dist-packages/"+library, "python3-"+library)
	return startReal(t, "/", func(dir, hostKey string) servertest.Program {
		return servertest.Program{
			Path: "/usr/bin/python3", Package: "python3-" + library,
			Args: func(port int) (args, env []string) {
				return []string{"-W", "ignore", "testdata/" + library + "_server.py", strconv.Itoa(port), dir, hostKey, testUser}, append(more, "PASSWORD="+testPassword)
			},
		}
	})
}

// TestServersSFTP: all that billdrop does, on servers of several makes.
func TestServersSFTP(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(*testing.T) *remote{
		"openssh":  func(t *testing.T) *remote { return startOpenSSH(t, opensshtest.Config{}) },
		"proftpd":  func(t *testing.T) *remote { return proftpd(t, nil).remote },
		"rclone":   func(t *testing.T) *remote { return rclone(t).remote },
		"asyncssh": func(t *testing.T) *remote { return python(t, "asyncssh").remote },
		"paramiko": func(t *testing.T) *remote { return python(t, "paramiko").remote },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := start(t)
			t.Run("files", func(t *testing.T) { useFiles(t, r) })
			t.Run("publish", func(t *testing.T) { testPublish(t, r) })
			t.Run("claims", func(t *testing.T) { raceClaims(t, r) })
			t.Run("wrong password", func(t *testing.T) {
				cfg := r.cfg
				cfg.PrivateKeyFile, cfg.PasswordFile = "", writeFile(t, t.TempDir()+"/wrong", "tr0ub4dor&3\n")
				check(t, dialOnce(t, cfg), inbox.ErrLogin, `"`+cfg.User+`"`)
			})
		})
	}
}

// useFiles makes every call that billdrop makes, beside Publish, with its ways to fail.
func useFiles(t *testing.T, r *remote) {
	a := r.dial(t)
	for range 2 {
		if err := a.Mkdir(t.Context(), r.path("new/inbox")); err != nil {
			t.Errorf("mkdir: %v", err)
		}
	}
	r.mkdir(t, "inbox")
	content := noise(2<<20 + 7)
	r.put(t, "inbox/a.csv", string(content))
	r.put(t, "inbox/b.csv", "b")
	entries, err := a.List(t.Context(), r.path("inbox"))
	if err != nil || len(entries) != 2 {
		t.Errorf("list: %v, %v", entries, err)
	}
	for _, e := range entries {
		if !e.Regular || e.Dir || e.Name == "a.csv" && e.Size != int64(len(content)) {
			t.Errorf("list: %+v", e)
		}
	}
	if e, err := a.Lstat(t.Context(), r.path("inbox")); err != nil || !e.Dir {
		t.Errorf("lstat of a directory: %+v, %v", e, err)
	}
	if _, err := a.Lstat(t.Context(), r.path("inbox/none.csv")); !errors.Is(err, inbox.ErrNotExist) {
		t.Errorf("lstat of nothing: %v", err)
	}
	if _, err := a.List(t.Context(), r.path("nowhere")); err == nil {
		t.Error("list of nothing succeeds")
	}
	if got := fetch(t, a, r.path("inbox/a.csv")); !bytes.Equal(got, content) {
		t.Errorf("fetched %d bytes, others than the %d there", len(got), len(content))
	}
	if _, err := a.Fetch(t.Context(), r.path("inbox/none.csv"), new(bytes.Buffer)); !errors.Is(err, inbox.ErrNotExist) {
		t.Errorf("fetch of nothing: %v", err)
	}
	if err := a.Rename(t.Context(), r.path("inbox/a.csv"), r.path("inbox/b.csv")); !errors.Is(err, inbox.ErrExists) {
		t.Errorf("rename over a file: %v", err)
	}
	if err := a.Rename(t.Context(), r.path("inbox/none.csv"), r.path("new/none.csv")); !errors.Is(err, inbox.ErrNotExist) {
		t.Errorf("rename of nothing: %v", err)
	}
	if err := a.Rename(t.Context(), r.path("inbox/a.csv"), r.path("new/a.csv")); err != nil {
		t.Errorf("rename: %v", err)
	}
	if got := r.get(t, "new/a.csv"); got != string(content) || slices.Contains(r.names(t, "inbox"), "a.csv") {
		t.Errorf("after the rename: %d bytes, and in the inbox %q", len(got), r.names(t, "inbox"))
	}
	for range 2 {
		if err := a.Remove(t.Context(), r.path("new/a.csv")); err != nil {
			t.Errorf("remove: %v", err)
		}
	}
}

// raceClaims: of several workers that claim the same files, one gets each.
func raceClaims(t *testing.T, r *remote) {
	const workers, files = 3, 20
	r.mkdir(t, "claimed")
	for i := range files {
		r.put(t, fmt.Sprintf("drop/%d.csv", i), "content")
	}
	won := make([][]int, workers)
	var wg sync.WaitGroup
	for w := range workers {
		a := r.dial(t)
		wg.Go(func() {
			for i := range files {
				err := a.Rename(t.Context(), r.path(fmt.Sprintf("drop/%d.csv", i)), r.path(fmt.Sprintf("claimed/%d-%d.csv", i, w)))
				if err == nil {
					won[w] = append(won[w], i)
				} else if !errors.Is(err, inbox.ErrNotExist) {
					t.Errorf("file %d: %v", i, err)
				}
			}
		})
	}
	wg.Wait()
	all := slices.Sorted(slices.Values(slices.Concat(won...)))
	if len(all) != files || len(slices.Compact(all)) != files {
		t.Errorf("claimed: %v", won)
	}
}

// TestServersIdleSession: sshd ends a session that is idle, as it is while rows are sent. The
// next call is made on a new one.
func TestServersIdleSession(t *testing.T) {
	t.Parallel()
	r := startOpenSSH(t, opensshtest.Config{Lines: []string{"ChannelTimeout session:*=4s", "LogLevel DEBUG"}})
	p := r.pool(t)
	for name, call := range everyPoolCall(t, r, p) {
		if err := p.Connect(t.Context()); err != nil {
			t.Fatal(err)
		}
		await(t, func() bool {
			log := r.sshd.Log()
			begun := strings.Count(log, "Starting session")
			return begun > 0 && strings.Count(log, "Close session") == begun
		})
		if err := call(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// await waits for a condition that another process brings about.
func await(t *testing.T, condition func() bool) {
	t.Helper()
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-deadline.C:
			t.Fatal("it did not happen within a minute")
		case <-tick.C:
		}
	}
}

// TestServersOneConnectionAUser: one connection a user, which the server ends when nothing is
// transferred. Five feeds share it.
func TestServersOneConnectionAUser(t *testing.T) {
	t.Parallel()
	const idle = 2 * time.Second
	r := proftpd(t, nil, "MaxClientsPerUser 1", fmt.Sprint("TimeoutNoTransfer ", idle.Seconds()))
	p := r.pool(t)
	calls := everyPoolCall(t, r.remote, p)
	sessions := func() int { n, _ := r.Sessions(); return n }
	await(t, func() bool { return sessions() == 0 }) // of what was set up
	for round := range 3 {
		var wg sync.WaitGroup
		began := time.Now()
		for range 5 {
			wg.Go(func() {
				remote, err := p.Open(t.Context())
				if err == nil {
					_, err = remote.List(t.Context(), r.path("inbox"))
				}
				if err != nil {
					t.Errorf("round %d: %v", round, err)
				}
			})
		}
		wg.Wait()
		if n := sessions(); n > 1 || n == 0 && time.Since(began) < idle {
			t.Errorf("%d connections, want 1", n)
		}
		await(t, func() bool { return sessions() == 0 })
	}
	for name, call := range calls {
		if err := call(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Beside the pool, there is no place for another connection.
	for tries := 1; ; tries++ {
		began := time.Now()
		_, err := p.List(t.Context(), r.path("inbox"))
		second := dialOnce(t, r.cfg)
		if err == nil && time.Since(began) < idle { // the pool's is there still
			check(t, second, inbox.ErrUnreachable, "the login succeeded, and then the server hung up", "no more connections")
			break
		}
		if tries == 5 {
			t.Fatal("the pool keeps no connection: ", err)
		}
		await(t, func() bool { return sessions() == 0 })
	}
	// A connection that breaks is made again, although the server may count the old one a while.
	if err := r.SignalSessions(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if _, err := p.List(t.Context(), r.path("inbox")); err != nil {
		t.Errorf("after it broke: %v", err)
	}
}

// TestServersKeyAndPassword: a key and a password.
func TestServersKeyAndPassword(t *testing.T) {
	t.Parallel()
	private, signer := newKey(t, "rsa")
	key := keyFile(t, private)
	r := proftpd(t, signer.PublicKey(), "SFTPAuthMethods publickey+password")
	password := r.cfg.PasswordFile
	r.cfg.PasswordFile, r.cfg.PrivateKeyFile = "", key
	check(t, dialOnce(t, r.cfg), inbox.ErrLogin, "accepted key "+key, "sftp.password_file")
	r.cfg.PasswordFile = password
	check(t, dialOnce(t, r.cfg), nil)
	r.cfg.PasswordFile = writeFile(t, t.TempDir()+"/wrong", "tr0ub4dor&3\n")
	check(t, dialOnce(t, r.cfg), inbox.ErrLogin, "refused the password")
}

// TestServersKeyType: a server that answers to an RSA key with its type, not with the algorithm
// that it was offered with.
func TestServersKeyType(t *testing.T) {
	t.Parallel()
	private, signer := newKey(t, "rsa")
	r := python(t, "asyncssh", "KEY="+string(ssh.MarshalAuthorizedKey(signer.PublicKey())))
	r.cfg.PrivateKeyFile, r.cfg.PasswordFile = keyFile(t, private), ""
	check(t, dialOnce(t, r.cfg), nil)
}

// TestServersRobot: another program removes every report the moment it appears, as servers do that
// hand files on.
func TestServersRobot(t *testing.T) {
	t.Parallel()
	r := startOpenSSH(t, opensshtest.Config{})
	r.mkdir(t, "results")
	results := filepath.Join(r.local, "results")
	collected := make(map[string]string)
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
			}
			names, _ := filepath.Glob(filepath.Join(results, "*.csv")) // the pattern is good
			for _, name := range names {
				if b, err := os.ReadFile(name); err == nil && os.Remove(name) == nil {
					collected[filepath.Base(name)] = string(b)
				}
			}
		}
	}()
	p := r.pool(t)
	const reports = 50
	for i := range reports {
		name := fmt.Sprintf("r%d.csv", i)
		if err := p.Publish(t.Context(), r.path("results"), name, strings.NewReader("report "+name)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	await(t, func() bool { left, err := os.ReadDir(results); return err == nil && len(left) == 0 })
	close(stop)
	<-done
	for i := range reports {
		name := fmt.Sprintf("r%d.csv", i)
		if collected[name] != "report "+name {
			t.Errorf("%s: %q", name, collected[name])
		}
	}
}
