package billfile

import (
	"reflect"
	"slices"
	"testing"
)

// The digests are what the ledgers of earlier versions hold: they never change.
func TestFingerprint(t *testing.T) {
	for _, c := range []struct {
		name   string
		format Format
		want   string
	}{
		{"nothing set", Format{}, "e3b0c44298fc1c149afbf4c8996fb924"},
		{"minor", Format{Amounts: Minor}, "fd1923f16e55a08d4ae29c53d117a9d6"},
		{"a limit of size says nothing about rows", Format{Amounts: Minor, MaxFileSize: 1 << 20}, "fd1923f16e55a08d4ae29c53d117a9d6"},
		{"columns", Format{
			Amounts: Major, Currency: "ZAR",
			Columns:       map[string]string{"Ref": "bill_reference", "Due": "amount_due"},
			IgnoreColumns: []string{"Notes", "Batch no"},
		}, "cfcca13a17a6abbe63d1c1cfb9eded1e"},
		{"everything", Format{
			Preset: "x", BillReference: "{customer_reference}-{due_date}", Amounts: Major,
			Currency: "ZAR", Currencies: []string{"ZAR", "USD"}, Delimiter: ';',
			Encoding: "windows-1252", DateFormat: "02/01/2006", PhoneRegion: "ZA",
			Columns:       map[string]string{"b": "metadata.b", "a": "metadata.a"},
			IgnoreColumns: []string{"Notes"}, AllowNoFinalNewline: true, MaxAmountDue: 500000, MaxFileSize: 4096,
		}, "6a097e30104d11dde463e828c7be2cfc"},
		{"lists that are empty, but there", Format{
			Amounts: Minor, Columns: map[string]string{}, IgnoreColumns: []string{}, Currencies: []string{},
		}, "ce9813703edbaa051b8d68fd7f1af7d2"},
	} {
		if got := c.format.Fingerprint(); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

// Every setting that says how rows are read changes the fingerprint, one that is added later
// included.
func TestFingerprintCoversFormat(t *testing.T) {
	bare := Format{}.Fingerprint()
	fields := reflect.TypeFor[Format]()
	for i := range fields.NumField() {
		var f Format
		switch v := reflect.ValueOf(&f).Elem().Field(i); v.Kind() {
		case reflect.String:
			v.SetString("x")
		case reflect.Bool:
			v.SetBool(true)
		case reflect.Uint8:
			v.SetUint(1)
		case reflect.Int, reflect.Int32, reflect.Int64:
			v.SetInt(1)
		case reflect.Slice:
			v.Set(reflect.MakeSlice(v.Type(), 0, 0))
		case reflect.Map:
			v.Set(reflect.MakeMap(v.Type()))
		default:
			t.Fatalf("%s is a %s: teach this test to set one", fields.Field(i).Name, v.Kind())
		}
		name := fields.Field(i).Name
		if same := f.Fingerprint() == bare; same != slices.Contains([]string{"MaxFileSize", "MaxRows", "MaxColumns"}, name) {
			t.Errorf("%s: the fingerprint is the same: %v", name, same)
		}
	}
}
