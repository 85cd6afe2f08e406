package billfile

import "strings"

// The active codes of ISO 4217 by number of decimals, as amended to 2026. They are kept
// here because the text libraries use CLDR's table. It follows usage and differs from ISO
// 4217 for dozens of currencies, which would make bills wrong a hundredfold. Codes
// without minor units (gold, test codes, drawing rights) are left out, because nobody is
// billed in them.
const (
	decimals0 = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF"
	decimals2 = "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD CDF CHE CHF CHW " +
		"CNY COP COU CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR " +
		"JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MXV MYR MZN NAD NGN NIO NOK NPR " +
		"NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS " +
		"UAH USD USN UYU UZS VED VES WST XAD XCD XCG YER ZAR ZMW ZWG"
	decimals3 = "BHD IQD JOD KWD LYD OMR TND"
	decimals4 = "CLF UYW"
)

// minorUnits is the number of decimals of each currency.
var minorUnits = func() map[string]int {
	all := map[string]int{}
	for decimals, codes := range map[int]string{0: decimals0, 2: decimals2, 3: decimals3, 4: decimals4} {
		for code := range strings.FieldsSeq(codes) {
			all[code] = decimals
		}
	}
	return all
}()

// MinorUnits returns how many decimals a currency has by ISO 4217: 2 for ZAR, 0 for JPY,
// 3 for BHD. ok is false for anything but an active code, in upper case, of a currency
// that bills can be in.
func MinorUnits(code string) (decimals int, ok bool) {
	decimals, ok = minorUnits[code]
	return decimals, ok
}
