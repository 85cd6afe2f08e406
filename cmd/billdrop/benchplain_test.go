//go:build bench

package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/csv"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"billdrop/ingest/inbox"
)

// benchCommands are the plain programs that billdrop is compared with; the test binary is all
// of them.
func benchCommands() map[string]func() {
	return map[string]func(){"fastapi": fastAPI, "bareloop": bareLoop, "barecsv": bareCSV, "slowreader": slowReader, "fetchfile": fetchFile}
}

// fastAPI answers every POST with the bill it asks for, after a latency, and holds nothing:
// LATENCY CERTIFICATE. It prints its URL.
func fastAPI() {
	latency, err := time.ParseDuration(os.Args[1])
	must(err)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || r.Method != http.MethodPost {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		time.Sleep(latency)
		ref := member(body, `"external_reference":"`)
		id := strings.ReplaceAll(ref, "-", "")
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusCreated)
		fmt.Fprintf(w, `{"id":"bill_%[1]s","external_reference":%[2]q,"customer_id":"bcus_%[1]s","account_id":"bacc_%[1]s","status":"unpaid","currency":%[3]q,"amount_due":%[4]s,"amount_paid":0,"bill_date":"2026-11-23","due_date":"2026-12-31"}`,
			id, ref, member(body, `"currency":"`), number(body, `"amount_due":`))
	}))
	if file := os.Args[2]; file == "" {
		server.Start()
	} else {
		server.StartTLS()
		must(os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600))
	}
	fmt.Println(server.URL)
	select {}
}

func member(body []byte, name string) string {
	_, rest, _ := bytes.Cut(body, []byte(name))
	value, _, _ := bytes.Cut(rest, []byte(`"`))
	return string(value)
}

func number(body []byte, name string) string {
	_, rest, _ := bytes.Cut(body, []byte(name))
	return string(rest[:max(0, bytes.IndexAny(rest, ",}"))])
}

// bareLoop posts bodies like billdrop's as fast as it can: URL CERTIFICATE ROWS SENDERS.
func bareLoop() {
	rows, err := strconv.Atoi(os.Args[3])
	must(err)
	senders, err := strconv.Atoi(os.Args[4])
	must(err)
	transport := &http.Transport{MaxIdleConnsPerHost: senders, MaxConnsPerHost: senders}
	if os.Args[2] != "" {
		certificate, err := os.ReadFile(os.Args[2])
		must(err)
		transport.TLSClientConfig = &tls.Config{RootCAs: x509.NewCertPool()}
		transport.TLSClientConfig.RootCAs.AppendCertsFromPEM(certificate)
	}
	client := &http.Client{Transport: transport}
	next := make(chan int)
	var wg sync.WaitGroup
	for range senders {
		wg.Go(func() {
			for i := range next {
				body := fmt.Sprintf(`{"external_reference":"INV-%07[1]d","currency":"ZAR","amount_due":%[2]d,"due_date":"2026-12-31","account":{"external_reference":"ACC-%07[1]d","name":"Account %[1]d","customer":{"external_reference":"CUS-%07[1]d","name":"Naledi Dube %[1]d","email":"n%[1]d@example.com","phone":"+27821234567"}}}`, i, 1000+i%90000)
				req, err := http.NewRequest("POST", os.Args[1]+"/billing/bills", strings.NewReader(body))
				must(err)
				req.Header.Set("Content-Type", "application/json")
				req.Header.Set("Authorization", "Bearer sk_test_bench")
				req.Header.Set("Idempotency-Key", fmt.Sprintf("00000000-0000-4000-8000-%012d", i))
				resp, err := client.Do(req)
				must(err)
				_, err = io.Copy(io.Discard, resp.Body)
				must(err)
				resp.Body.Close()
			}
		})
	}
	for i := range rows {
		next <- i
	}
	close(next)
	wg.Wait()
}

// bareCSV reads a file with encoding/csv and nothing else: FILE.
func bareCSV() {
	f, err := os.Open(os.Args[1])
	must(err)
	r := csv.NewReader(bufio.NewReaderSize(f, 1<<16))
	r.ReuseRecord = true
	for {
		if _, err := r.Read(); errors.Is(err, io.EOF) {
			return
		} else {
			must(err)
		}
	}
}

// fetchFile fetches a remote file as billdrop does: ADDRESS USER KEY KNOWN_HOSTS REMOTE LOCAL.
func fetchFile() {
	a, err := inbox.Dial(context.Background(), inbox.Config{Address: os.Args[1], User: os.Args[2], PrivateKeyFile: os.Args[3], KnownHostsFile: os.Args[4]})
	must(err)
	f, err := os.Create(os.Args[6])
	must(err)
	_, err = a.Fetch(context.Background(), os.Args[5], f)
	must(err)
	must(f.Close())
	must(a.Close())
}

// slowReader fetches a file with one request at a time: the arguments of fetchFile.
func slowReader() { must(readOneByOne(os.Args[1:])) }
