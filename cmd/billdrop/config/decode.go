package config

import (
	"fmt"
	"math"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// decoder turns YAML nodes into a Config. It records the line of each key, for the checks
// that follow, and collects mistakes without stopping.
type decoder struct {
	env      func(string) (string, bool)
	lines    map[string]int // key path → line of the value, or of the key where there is none
	problems []Problem
	newFeed  func() Feed
	dir      string // of the file; relative paths of local files start there
}

// at is the line of a key path, or of the nearest key above it in the file.
func (d *decoder) at(path string) int {
	for {
		if line, ok := d.lines[path]; ok {
			return line
		}
		i := strings.LastIndexAny(path, ".[")
		if i < 0 {
			return 1
		}
		path = path[:i]
	}
}

// has reports whether the file has a value at path.
func (d *decoder) has(path string) bool { _, ok := d.lines[path]; return ok }

func (d *decoder) problem(path, format string, args ...any) {
	d.problemAt(d.at(path), path, format, args...)
}

func (d *decoder) problemAt(line int, path, format string, args ...any) {
	d.problems = append(d.problems, Problem{Line: line, Key: path, What: fmt.Sprintf(format, args...)})
}

// decode sets v, which holds the default, to the node's value.
func (d *decoder) decode(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if _, seen := d.lines[path]; !seen {
		d.lines[path] = n.Line
	}
	switch v.Kind() {
	case reflect.Struct:
		d.decodeStruct(n, v, path)
	case reflect.Slice:
		d.decodeList(n, v, path)
	case reflect.Map:
		d.decodeMap(n, v, path)
	default:
		d.decodeScalar(n, v, path)
	}
}

// decodeStruct reads a mapping in the order of the struct's fields. Feeds come last, after
// all that they inherit.
func (d *decoder) decodeStruct(n *yaml.Node, v reflect.Value, path string) {
	if isNull(n) {
		return // a section whose keys are all commented out
	}
	if n.Kind != yaml.MappingNode {
		d.problemAt(n.Line, path, "must be a section; write its keys below it, indented: %s", strings.Join(keysOf(v.Type()), ", "))
		return
	}
	values := d.mapping(n, path)
	for i := range v.NumField() {
		key, field := v.Type().Field(i).Tag.Get("yaml"), v.Field(i)
		if value, ok := values[key]; ok {
			d.decode(value, field, join(path, key))
			delete(values, key)
			if strings.HasSuffix(key, "_file") || key == "spool_dir" {
				field.SetString(absolute(d.dir, field.String()))
			}
		}
	}
	for i := 0; i < len(n.Content); i += 2 {
		key := n.Content[i]
		if _, unknown := values[key.Value]; unknown {
			d.problemAt(key.Line, join(path, printable(key.Value)), "%s", unknownKey(key.Value, path, v.Type()))
		}
	}
}

// mapping returns a mapping's values by key. It reports keys that are not text or come
// twice.
func (d *decoder) mapping(n *yaml.Node, path string) map[string]*yaml.Node {
	values := make(map[string]*yaml.Node, len(n.Content)/2)
	first := make(map[string]int, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.Kind != yaml.ScalarNode {
			d.problemAt(key.Line, path, "has a key that is not plain text; write `name: value`")
			continue
		}
		if line, twice := first[key.Value]; twice {
			d.problemAt(key.Line, join(path, printable(key.Value)), "is given twice, first on line %d; remove one of the two", line)
			continue
		}
		first[key.Value] = key.Line
		values[key.Value] = value
	}
	return values
}

func (d *decoder) decodeList(n *yaml.Node, v reflect.Value, path string) {
	if isNull(n) {
		return
	}
	if n.Kind != yaml.SequenceNode {
		d.problemAt(n.Line, path, "must be a list; write each item on a line of its own after `- `, or all of them in [ ]")
		return
	}
	list := reflect.MakeSlice(v.Type(), 0, len(n.Content))
	for i, item := range n.Content {
		at := fmt.Sprintf("%s[%d]", path, i)
		e := reflect.New(v.Type().Elem()).Elem()
		if f, ok := e.Addr().Interface().(*Feed); ok {
			*f = d.newFeed()
		}
		if isNull(item) {
			d.problemAt(item.Line, at, "is empty; fill it in or remove it")
			continue
		}
		d.decode(item, e, at)
		list = reflect.Append(list, e)
	}
	v.Set(list)
}

func (d *decoder) decodeMap(n *yaml.Node, v reflect.Value, path string) {
	if isNull(n) {
		return
	}
	if n.Kind != yaml.MappingNode {
		d.problemAt(n.Line, path, "must be pairs; write {name: value}, or {} for none")
		return
	}
	m := reflect.MakeMapWithSize(v.Type(), len(n.Content)/2)
	for key, value := range d.mapping(n, path) {
		e := reflect.New(v.Type().Elem()).Elem()
		d.decode(value, e, join(path, printable(key)))
		m.SetMapIndex(reflect.ValueOf(key), e)
	}
	v.Set(m)
}

// decodeScalar reads one value. Messages say what to write, and do not quote the value.
func (d *decoder) decodeScalar(n *yaml.Node, v reflect.Value, path string) {
	want := wanted(v)
	if n.Kind != yaml.ScalarNode {
		d.problemAt(n.Line, path, "must be a single value; write %s", want)
		return
	}
	if isNull(n) {
		d.problemAt(n.Line, path, "has no value; write %s, or leave the key out", want)
		return
	}
	text, ok := d.expand(n, path)
	if !ok {
		return
	}
	if !setScalar(v, text) {
		d.problemAt(n.Line, path, "is not valid; write %s", want)
	}
}

func setScalar(v reflect.Value, text string) bool {
	switch p := v.Addr().Interface().(type) {
	case *string:
		*p = text
		return true
	case *bool:
		*p = text == "true"
		return text == "true" || text == "false"
	case *time.Duration:
		t, err := time.ParseDuration(text)
		*p = t
		return err == nil
	case *Size:
		size, ok := parseSize(text)
		*p = size
		return ok
	case *int:
		i, ok := parseInt(text)
		*p = int(i)
		return ok
	case *int64:
		i, ok := parseInt(text)
		*p = i
		return ok
	}
	panic("config: a field has a type that the decoder does not know: " + v.Type().String())
}

// wanted says what to write for a value of v's type.
func wanted(v reflect.Value) string {
	switch v.Addr().Interface().(type) {
	case *bool:
		return "true or false"
	case *time.Duration:
		return "a number with its unit, such as 500ms, 30s or 5m"
	case *Size:
		return "a size such as 500MB or 1GiB (0 = no limit)"
	case *int, *int64:
		return "a whole number, digits only"
	}
	return "a text in quotes"
}

// parseInt reads decimal digits. Readers of YAML disagree on what `010` and `1e3` mean.
func parseInt(text string) (int64, bool) {
	digits := strings.TrimPrefix(text, "-")
	if len(digits) > 1 && digits[0] == '0' || strings.HasPrefix(text, "+") {
		return 0, false
	}
	i, err := strconv.ParseInt(text, 10, 64)
	return i, err == nil
}

var sizeUnits = []struct {
	suffix string
	bytes  int64
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40}, {"kB", 1e3}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}, {"B", 1}, {"", 1}}

func parseSize(text string) (Size, bool) {
	for _, u := range sizeUnits {
		number, found := strings.CutSuffix(text, u.suffix)
		if !found {
			continue
		}
		i, ok := parseInt(strings.TrimSpace(number))
		if !ok || i < 0 || i > math.MaxInt64/u.bytes {
			return 0, false
		}
		return Size(i * u.bytes), true
	}
	return 0, false
}

var variable = regexp.MustCompile(`\$\{([^}]*)\}?`)
var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// expand replaces references to environment variables. It works on the parsed value, so
// the content of a variable cannot become YAML.
func (d *decoder) expand(n *yaml.Node, path string) (string, bool) {
	good := true
	text := variable.ReplaceAllStringFunc(n.Value, func(ref string) string {
		name := strings.TrimSuffix(strings.TrimPrefix(ref, "${"), "}")
		if !strings.HasSuffix(ref, "}") || !variableName.MatchString(name) {
			d.problemAt(n.Line, path, "has a `${` that names no environment variable; write ${NAME}")
			good = false
			return ""
		}
		value, ok := d.env(name)
		if !ok {
			d.problemAt(n.Line, path, "names the environment variable %s, which is not set; set it, or write the value here", name)
			good = false
		}
		return value
	})
	return text, good
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}
