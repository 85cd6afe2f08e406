package config

import (
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

const examplePath = "../../../config.example.yaml"

// optional are keys that the example shows in a comment. Beside the other keys they would
// be an error, or change the meaning of the example.
var optional = []string{"api.proxy", "api.proxy_password_file", "api.ca_file", "api.client_cert_file", "api.client_key_file", "api.webhook_secret_file",
	"sftp.private_key_passphrase_file", "sftp.certificate_file", "sftp.password_file", "sftp.proxy_jump",
	"feeds[].merchant", "feeds[].api", "on_finish", "feeds[].on_finish"}

func TestExampleIsValid(t *testing.T) {
	if _, err := Load(examplePath, noEnv, Needs{Key: true, SFTP: true}); err != nil {
		t.Fatal(err)
	}
}

// TestExampleHasEveryKey: the example has each key of the structs. Load refuses others.
func TestExampleHasEveryKey(t *testing.T) {
	text := exampleText(t)
	var root yaml.Node
	if err := yaml.Unmarshal([]byte(text), &root); err != nil {
		t.Fatal(err)
	}
	there := map[string]bool{}
	collect(root.Content[0], "", there)
	for _, key := range allKeys(reflect.TypeFor[Config](), "") {
		last := key[strings.LastIndexByte(key, '.')+1:]
		isOptional := false
		for _, o := range optional {
			isOptional = isOptional || key == o || strings.HasPrefix(key, o+".")
			if key == o && !regexp.MustCompile(`(?m)^ *# `+last+`:`).MatchString(text) {
				t.Errorf("config.example.yaml does not show %s in a comment", key)
			}
		}
		if !isOptional && !there[key] {
			t.Errorf("config.example.yaml lacks %s", key)
		}
	}
}

// TestExampleHasDefaults: the value of an optional key in the example is its default.
func TestExampleHasDefaults(t *testing.T) {
	got, err := Load(examplePath, noEnv, Needs{Key: true, SFTP: true})
	if err != nil {
		t.Fatal(err)
	}
	minimal := `
merchant: acme
api: {key_file: /etc/billdrop/api.key}
sftp: {address: "sftp.example.com:22", user: acme, private_key_file: /etc/billdrop/id_ed25519, known_hosts_file: /etc/billdrop/known_hosts}
ledger: sqlite:/var/lib/billdrop/ledger.db
spool_dir: /var/lib/billdrop/spool
feeds: [{name: bills, amounts: minor}]
`
	want, problems := parse([]byte(minimal), "/", noEnv, Needs{Key: true, SFTP: true})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	if diff := cmp.Diff(want, got, cmp.Transformer("emptyIsNil", emptyIsNil)); diff != "" {
		t.Errorf("config.example.yaml differs from the defaults (- default, + example):\n%s", diff)
	}
}

// emptyIsNil makes {} and [] equal to a key that is left out.
func emptyIsNil(f Feed) feedCopy {
	for _, m := range []*map[string]int64{&f.Hold.MaxTotal} {
		if len(*m) == 0 {
			*m = nil
		}
	}
	if len(f.Columns) == 0 {
		f.Columns = nil
	}
	if len(f.IgnoreColumns) == 0 {
		f.IgnoreColumns = nil
	}
	if len(f.Expect.Days) == 0 {
		f.Expect.Days = nil
	}
	return feedCopy(f)
}

type feedCopy Feed

// TestExampleExplainsEveryKey: there is a comment above each key.
func TestExampleExplainsEveryKey(t *testing.T) {
	lines := strings.Split(exampleText(t), "\n")
	key := regexp.MustCompile(`^( *)(- )?[a-z_]+:`)
	for i, line := range lines {
		if key.MatchString(line) && (i == 0 || !strings.HasPrefix(strings.TrimSpace(lines[i-1]), "#")) {
			t.Errorf("config.example.yaml:%d: no comment above %s", i+1, strings.TrimSpace(line))
		}
	}
}

func exampleText(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(examplePath)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// collect adds the key paths of a document, without list indexes.
func collect(n *yaml.Node, path string, into map[string]bool) {
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i < len(n.Content); i += 2 {
			at := join(path, n.Content[i].Value)
			into[at] = true
			collect(n.Content[i+1], at, into)
		}
	case yaml.SequenceNode:
		for _, item := range n.Content {
			collect(item, path+"[]", into)
		}
	}
}

func allKeys(t reflect.Type, path string) []string {
	var keys []string
	for i := range t.NumField() {
		f := t.Field(i)
		at := join(path, f.Tag.Get("yaml"))
		keys = append(keys, at)
		switch {
		case f.Type.Kind() == reflect.Struct:
			keys = append(keys, allKeys(f.Type, at)...)
		case f.Type.Kind() == reflect.Slice && f.Type.Elem().Kind() == reflect.Struct:
			keys = append(keys, allKeys(f.Type.Elem(), at+"[]")...)
		}
	}
	return keys
}

func noEnv(string) (string, bool) { return "", false }
