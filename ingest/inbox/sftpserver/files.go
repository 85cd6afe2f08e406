package sftpserver

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"
	"time"

	"github.com/pkg/sftp"
)

// files serves the requests of one session from the server's root. Its methods are called
// concurrently.
type files struct{ server *Server }

// before runs the hooks and refuses changes of a read-only server. Its error is the client's
// answer.
func (h *files) before(op Op, name string, changes bool) error {
	f := h.server.faults.Load()
	if f.Before != nil {
		if err := f.Before(h.server.ctx, op, name); err != nil {
			return plain(err)
		}
	}
	if changes && f.ReadOnly {
		return sftp.ErrSSHFxPermissionDenied
	}
	return nil
}

// Fileread opens a regular file. It refuses everything else, because opening it could block.
func (h *files) Fileread(r *sftp.Request) (io.ReaderAt, error) {
	if err := h.before(OpRead, r.Filepath, false); err != nil {
		return nil, err
	}
	info, err := h.server.root.Stat(inside(r.Filepath))
	if err != nil {
		return nil, plain(err)
	}
	if !info.Mode().IsRegular() {
		return nil, sftp.ErrSSHFxFailure
	}
	f, err := h.server.root.Open(inside(r.Filepath))
	if err != nil {
		return nil, plain(err)
	}
	return &open{File: f, files: h, path: r.Filepath}, nil
}

// Filewrite opens a file for writing. It truncates an existing file only on request.
func (h *files) Filewrite(r *sftp.Request) (io.WriterAt, error) {
	if err := h.before(OpWrite, r.Filepath, true); err != nil {
		return nil, err
	}
	asked, flags := r.Pflags(), os.O_WRONLY
	if asked.Creat {
		flags |= os.O_CREATE
	}
	if asked.Excl && h.server.faults.Load().NoExcl {
		return nil, sftp.ErrSSHFxOpUnsupported
	}
	if asked.Excl {
		flags |= os.O_EXCL
	}
	if asked.Trunc {
		flags |= os.O_TRUNC
	}
	if info, err := h.server.root.Stat(inside(r.Filepath)); err == nil && !info.Mode().IsRegular() {
		return nil, sftp.ErrSSHFxFailure
	}
	f, err := h.server.root.OpenFile(inside(r.Filepath), flags, 0o644)
	if err != nil {
		return nil, plain(err)
	}
	return &open{File: f, files: h, path: r.Filepath}, nil
}

// commands are the requests that Filecmd serves. Links, hard and symbolic, are not among them.
var commands = map[string]Op{"Setstat": OpSetstat, "Rename": OpRename, "Remove": OpRemove, "Mkdir": OpMkdir, "Rmdir": OpRmdir}

// Filecmd changes a directory or the attributes of a file.
func (h *files) Filecmd(r *sftp.Request) error {
	op, served := commands[r.Method]
	switch {
	case !served:
		return sftp.ErrSSHFxOpUnsupported
	case op == OpSetstat && r.Flags == 0:
		return h.fsync(r.Filepath)
	}
	if err := h.before(op, r.Filepath, true); err != nil {
		return err
	}
	root, name := h.server.root, inside(r.Filepath)
	switch op {
	case OpSetstat:
		return plain(h.setstat(name, r))
	case OpRename:
		return plain(h.rename(name, inside(r.Target)))
	case OpMkdir:
		return plain(root.Mkdir(name, 0o755))
	}
	if info, err := root.Lstat(name); err != nil {
		return plain(err)
	} else if info.IsDir() != (op == OpRmdir) {
		return sftp.ErrSSHFxFailure
	}
	return plain(root.Remove(name))
}

// PosixRename renames over an existing file.
func (h *files) PosixRename(r *sftp.Request) error {
	if h.server.faults.Load().NoPosixRename {
		return sftp.ErrSSHFxOpUnsupported
	}
	if err := h.before(OpPosixRename, r.Filepath, true); err != nil {
		return err
	}
	h.server.renames.Lock()
	defer h.server.renames.Unlock()
	return plain(h.server.root.Rename(inside(r.Filepath), inside(r.Target)))
}

// rename never overwrites, even if several clients race: they take turns. A hard link in place of
// the rename would need no turns, but not every file system has them.
func (h *files) rename(from, to string) error {
	h.server.renames.Lock()
	defer h.server.renames.Unlock()
	if _, err := h.server.root.Lstat(from); err != nil {
		return err
	}
	if _, err := h.server.root.Lstat(to); !errors.Is(err, fs.ErrNotExist) {
		return errors.Join(fs.ErrExist, err)
	}
	return h.server.root.Rename(from, to)
}

// fsync syncs a file to disk. Any handle of the file serves, not only the client's.
func (h *files) fsync(name string) error {
	if h.server.faults.Load().NoFsync {
		return sftp.ErrSSHFxOpUnsupported
	}
	if err := h.before(OpFsync, name, true); err != nil {
		return err
	}
	f, err := h.server.root.Open(inside(name))
	if err != nil {
		return plain(err)
	}
	return plain(errors.Join(f.Sync(), f.Close()))
}

// setstat sets size, permissions and times, but not owners.
func (h *files) setstat(name string, r *sftp.Request) error {
	root, which, attrs := h.server.root, r.AttrFlags(), r.Attributes()
	if attrs == nil || which.UidGid {
		return sftp.ErrSSHFxOpUnsupported
	}
	if which.Size {
		f, err := root.OpenFile(name, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		if err := errors.Join(f.Truncate(int64(attrs.Size)), f.Close()); err != nil {
			return err
		}
	}
	if which.Permissions {
		if err := root.Chmod(name, attrs.FileMode().Perm()); err != nil {
			return err
		}
	}
	if which.Acmodtime {
		return root.Chtimes(name, attrs.AccessTime(), attrs.ModTime())
	}
	return nil
}

// Filelist answers list and stat.
func (h *files) Filelist(r *sftp.Request) (sftp.ListerAt, error) {
	if r.Method != "List" {
		if err := h.before(OpLstat, r.Filepath, false); err != nil {
			return nil, err
		}
		if r.Method == "Stat" && h.server.faults.Load().NoFstat {
			return nil, sftp.ErrSSHFxOpUnsupported
		}
		return h.one(h.server.root.Stat(inside(r.Filepath)))
	}
	if err := h.before(OpList, r.Filepath, false); err != nil {
		return nil, err
	}
	dir, err := h.server.root.Open(inside(r.Filepath))
	if err != nil {
		return nil, plain(err)
	}
	names, err := dir.Readdirnames(-1)
	if err := errors.Join(err, dir.Close()); err != nil {
		return nil, plain(err)
	}
	list := make(listing, 0, len(names))
	for _, name := range names {
		info, err := h.server.root.Lstat(path.Join(inside(r.Filepath), name))
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed in the meantime
		}
		if err != nil {
			return nil, plain(err)
		}
		list = append(list, h.described(info))
	}
	if extra := h.server.faults.Load().Extra; extra != nil {
		return crowd{listing: list, extra: extra}, nil
	}
	return list, nil
}

// Lstat returns a symbolic link itself, not its target.
func (h *files) Lstat(r *sftp.Request) (sftp.ListerAt, error) {
	if err := h.before(OpLstat, r.Filepath, false); err != nil {
		return nil, err
	}
	return h.one(h.server.root.Lstat(inside(r.Filepath)))
}

// Readlink is refused: no client needs the targets of links.
func (h *files) Readlink(string) (string, error) { return "", sftp.ErrSSHFxOpUnsupported }

// open is a file that a client has open.
type open struct {
	*os.File
	files *files
	path  string
}

func (o *open) ReadAt(p []byte, off int64) (int, error) {
	if err := o.files.before(OpReadAt, o.path, false); err != nil {
		return 0, err
	}
	n, err := o.File.ReadAt(p, off)
	if err != io.EOF {
		err = plain(err)
	}
	return n, err
}

func (o *open) WriteAt(p []byte, off int64) (int, error) {
	if err := o.files.before(OpWriteAt, o.path, true); err != nil {
		return 0, err
	}
	if err := o.files.server.faults.Load().take(len(p)); err != nil {
		return 0, plain(err)
	}
	n, err := o.File.WriteAt(p, off)
	return n, plain(err)
}

// listing is the content of a directory when it was opened.
type listing []fs.FileInfo

func (l listing) ListAt(to []fs.FileInfo, from int64) (int, error) {
	if from >= int64(len(l)) {
		return 0, io.EOF
	}
	n := copy(to, l[from:])
	if n < len(to) {
		return n, io.EOF
	}
	return n, nil
}

// crowd is a listing followed by files that are not there.
type crowd struct {
	listing
	extra func(i int64) (string, bool)
}

func (c crowd) ListAt(to []fs.FileInfo, from int64) (int, error) {
	n := 0
	if own := int64(len(c.listing)); from < own {
		n = copy(to, c.listing[from:])
	}
	for ; n < len(to); n++ {
		name, ok := c.extra(from + int64(n) - int64(len(c.listing)))
		if !ok {
			return n, io.EOF
		}
		to[n] = invented(name)
	}
	return n, nil
}

// invented is the name of an empty regular file that is not there.
type invented string

func (i invented) Name() string     { return string(i) }
func (invented) Size() int64        { return 0 }
func (invented) Mode() fs.FileMode  { return 0o644 }
func (invented) ModTime() time.Time { return time.Unix(0, 0) }
func (invented) IsDir() bool        { return false }
func (invented) Sys() any           { return nil }

func (h *files) one(info fs.FileInfo, err error) (sftp.ListerAt, error) {
	if errors.Is(err, fs.ErrNotExist) && h.server.faults.Load().VagueMissing {
		return nil, sftp.ErrSSHFxFailure
	}
	if err != nil {
		return nil, plain(err)
	}
	return listing{h.described(info)}, nil
}

// described is what a client sees of a file.
func (h *files) described(info fs.FileInfo) fs.FileInfo {
	if h.server.faults.Load().NoTypes {
		return typeless{info}
	}
	return info
}

// typeless is a file whose kind is hidden.
type typeless struct{ fs.FileInfo }

func (t typeless) Mode() fs.FileMode { return t.FileInfo.Mode().Perm() | fs.ModeIrregular }

// inside returns a client's path, which is absolute and clean, relative to the root.
func inside(name string) string {
	if name = strings.TrimPrefix(name, "/"); name == "" {
		return "."
	}
	return name
}

// plain returns err as OpenSSH reports it: a code, without the path of the directory served.
func plain(err error) error {
	if err == nil {
		return nil
	}
	for _, code := range []error{
		sftp.ErrSSHFxNoSuchFile, sftp.ErrSSHFxPermissionDenied, sftp.ErrSSHFxOpUnsupported, sftp.ErrSSHFxFailure,
	} {
		if errors.Is(err, code) {
			return code
		}
	}
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		return sftp.ErrSSHFxNoSuchFile
	case errors.Is(err, fs.ErrPermission):
		return sftp.ErrSSHFxPermissionDenied
	default:
		return sftp.ErrSSHFxFailure
	}
}
