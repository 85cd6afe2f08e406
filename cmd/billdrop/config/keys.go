package config

import (
	"fmt"
	"reflect"
	"regexp"
	"strings"

	"billdrop/ingest/billfile"
)

// keysOf are the keys of a section, in the order of the documentation.
func keysOf(t reflect.Type) []string {
	keys := make([]string, t.NumField())
	for i := range keys {
		keys[i] = t.Field(i).Tag.Get("yaml")
	}
	return keys
}

// secretFiles are, by section, keys under which people expect to write a secret itself, and
// those that name a file with it.
var secretFiles = map[reflect.Type]map[string]string{
	reflect.TypeFor[Config](): {"ledger_password": "ledger_password_file"},
	reflect.TypeFor[API]():    {"proxy_password": "proxy_password_file", "client_key": "client_key_file", "webhook_secret": "webhook_secret_file"},
	reflect.TypeFor[SFTP](): {
		"password": "password_file", "private_key": "private_key_file",
		"passphrase": "private_key_passphrase_file", "private_key_passphrase": "private_key_passphrase_file",
	},
}

// unknownKey says what to do about a key that is unknown in the section at path.
func unknownKey(key, path string, section reflect.Type) string {
	if section == reflect.TypeFor[API]() && (key == "key" || key == "api_key" || key == "token") {
		return "is not a key: the API key never stands in this file; put it into a file of its own (mode 0600) and name it in key_file, or set " + EnvAPIKey
	}
	if file := secretFiles[section][key]; file != "" {
		return "is not a key: secrets never stand in this file; put it into a file of its own (mode 0600) and name it in " + file
	}
	if near := nearest(key, keysOf(section)); near != "" {
		return fmt.Sprintf("is not a known key; did you mean %s?", near)
	}
	for _, home := range homes(key, reflect.TypeFor[Config](), "") {
		switch {
		case home == key:
			return "does not belong here; move it to the top level"
		case home != join(path, key):
			return "does not belong here; it belongs at " + home
		}
	}
	return "is not a known key; remove it (known here: " + strings.Join(keysOf(section), ", ") + ")"
}

// homes are all key paths of the configuration that end in key.
func homes(key string, t reflect.Type, path string) []string {
	var found []string
	for i := range t.NumField() {
		f := t.Field(i)
		here := join(path, f.Tag.Get("yaml"))
		if f.Tag.Get("yaml") == key {
			found = append(found, here)
		}
		switch {
		case f.Type.Kind() == reflect.Struct:
			found = append(found, homes(key, f.Type, here)...)
		case f.Type.Kind() == reflect.Slice && f.Type.Elem().Kind() == reflect.Struct:
			found = append(found, homes(key, f.Type.Elem(), here+"[]")...)
		}
	}
	return found
}

var plainKey = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_. -]{0,39}$`)

// printable is a key as a message may show it. It hides what looks like a secret in the
// place of a key.
func printable(key string) string {
	if !plainKey.MatchString(key) || strings.HasPrefix(key, "sk_") || strings.HasPrefix(key, "pk_") {
		return "(a key)"
	}
	return key
}

// nearest is the known name that key most likely misspells: at most a third of it differs.
// "" = none.
func nearest(key string, known []string) string {
	best, least := "", len(key)/3+1
	for _, k := range known {
		if n := billfile.EditDistance(strings.ToLower(key), k); n < least {
			best, least = k, n
		}
	}
	return best
}
