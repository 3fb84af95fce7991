package enroll_test

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"ropeway/certs/enroll"
	"ropeway/protocol/fault"
)

func token() enroll.Token {
	return enroll.Token{Hub: "https://hub.example:8443", Pin: strings.Repeat("ab", 32), Secret: enroll.NewSecret()}
}

func TestTokenRoundTrip(t *testing.T) {
	want := token()
	got, err := enroll.ParseToken(" \r\n" + want.Text() + "\n")
	if err != nil || got != want {
		t.Errorf("ParseToken = %v, %v", got, err)
	}
}

func TestTokenNeverPrintsItsSecret(t *testing.T) {
	tok := token()
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d", "%q"} {
		text := fmt.Sprintf(verb, tok)
		if strings.Contains(text, fmt.Sprintf("%x", tok.Secret[:])) || !strings.Contains(text, "***") {
			t.Errorf("%s prints %s", verb, text)
		}
	}
}

func TestTokenRefuses(t *testing.T) {
	good := token().Text()
	wrap := func(json string) string { return "rwt1." + base64.RawURLEncoding.EncodeToString([]byte(json)) }
	pin, secret := strings.Repeat("ab", 32), base64.StdEncoding.EncodeToString(make([]byte, 32))
	body := func(hub, pin, secret string) string {
		return wrap(fmt.Sprintf(`{"hub":%q,"pin":%q,"secret":%q}`, hub, pin, secret))
	}
	for name, text := range map[string]string{
		"empty":           "",
		"white space":     " \n\t",
		"1 MiB":           strings.Repeat("a", 1<<20),
		"no prefix":       good[5:],
		"upper prefix":    "RWT1." + good[5:],
		"cut":             good[:len(good)-4],
		"a space inside":  good[:20] + " " + good[20:],
		"two":             good + "\n" + good,
		"padding":         good + "=",
		"not JSON":        wrap("hello"),
		"two values":      wrap(`{"hub":"https://h","pin":"` + pin + `","secret":"` + secret + `"}{}`),
		"null":            wrap("null"),
		"array":           wrap("[]"),
		"unknown field":   wrap(`{"hub":"https://h","pin":"` + pin + `","secret":"` + secret + `","x":1}`),
		"deep":            wrap(strings.Repeat("[", 2000)),
		"short secret":    body("https://h", pin, "AAAA"),
		"short pin":       body("https://h", "abab", secret),
		"upper pin":       body("https://h", strings.ToUpper(pin), secret),
		"pin not hex":     body("https://h", strings.Repeat("zz", 32), secret),
		"http":            body("http://h", pin, secret),
		"hub with path":   body("https://h/x", pin, secret),
		"hub with user":   body("https://u:p@h", pin, secret),
		"hub empty":       body("", pin, secret),
		"hub with a tick": body("https://h'x", pin, secret),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := enroll.ParseToken(text)
			f := fault.From(err)
			if err == nil || f.Code != "E_TOKEN_INVALID" || f.Cause == "" || f.Fix == "" {
				t.Fatalf("ParseToken = %v", err)
			}
			if inside := strings.TrimSpace(text); len(inside) > 20 && strings.Contains(err.Error(), inside[5:]) {
				t.Error("the error quotes the token")
			}
		})
	}
	if _, err := enroll.ParseToken(body("https://h", pin, secret)); err != nil {
		t.Errorf("the good one: %v", err)
	}
}

func TestAddress(t *testing.T) {
	for hub, want := range map[string]string{
		"https://h": "h:443", "https://h:8443": "h:8443", "https://[::1]:1": "[::1]:1", "https://127.0.0.1/": "127.0.0.1:443",
		"https://a.b-c.example": "a.b-c.example:443", "https://my_host:65535": "my_host:65535",
		"http://h": "", "h:8443": "", "https://": "", "https://h:0": "", "https://h:65536": "", "https://h:x": "",
		"https://h/a": "", "https://h?a": "", "https://h#a": "", "https://h?": "", "https://u@h": "", "https://bücher": "",
		"https://[fe80::1%25eth0]:1": "", "https://-h": "", "https://h\n": "", "https://" + strings.Repeat("a", 300): "",
		"HTTPS://h": "h:443", "https://h:": "h:443",
	} {
		if got, err := enroll.Address(hub); got != want || (err == nil) != (want != "") {
			t.Errorf("Address(%.60q) = %q, %v, want %q", hub, got, err, want)
		}
	}
}

func FuzzParseToken(f *testing.F) {
	f.Add(token().Text())
	f.Add("rwt1.e30")
	f.Fuzz(func(t *testing.T, text string) {
		tok, err := enroll.ParseToken(text)
		if err != nil {
			return
		}
		if again, err := enroll.ParseToken(tok.Text()); err != nil || again != tok {
			t.Errorf("%q does not survive", text)
		}
	})
}
