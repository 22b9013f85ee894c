// Command hvclient plays a customer of GlobalSign with GlobalSign's own client: a witness for the HVCA stand-in
// (simulators/atlas.py) and for what the adapter (issuers/globalsign.py) sends.
//
// It reads one JSON object from standard input, does what its "do" says, and prints one JSON object:
//
//	"session"  every call that the adapter uses, one certificate issued and revoked
//	"request"  nothing is called: the body that hvclient would send for a certificate request
//	"refused"  the error that a certificate request ends with
package main

import (
	"context"
	"crypto/x509"
	"encoding/asn1"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"time"

	"github.com/globalsign/hvclient"
)

// order is what comes in on standard input. Times are UNIX seconds; not_after 0 asks for the longest validity.
type order struct {
	Do         string       `json:"do"`
	Config     string       `json:"config"`
	Roots      string       `json:"roots"`
	CSR        string       `json:"csr"`
	PublicKey  bool         `json:"public_key"`
	Subject    *hvclient.DN `json:"subject"`
	ClientAuth bool         `json:"client_auth"`
	NotBefore  int64        `json:"not_before"`
	NotAfter   int64        `json:"not_after"`
}

// listed is one certificate of a statistic.
type listed struct {
	Serial string `json:"serial"`
	Begin  int64  `json:"not_before"`
}

var clientAuth = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 2}

func main() {
	var in order
	if err := json.NewDecoder(os.Stdin).Decode(&in); err != nil {
		fail(err)
	}

	var out, err = perform(in)
	if err != nil {
		fail(err)
	}

	if err = json.NewEncoder(os.Stdout).Encode(out); err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func perform(in order) (map[string]interface{}, error) {
	var request, err = newRequest(in)
	if err != nil {
		return nil, err
	}

	if in.Do == "request" {
		return map[string]interface{}{"body": request}, nil
	}

	var ctx, cancel = context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	var client *hvclient.Client
	if client, err = connect(ctx, in); err != nil {
		return refusal(in, err)
	}

	switch in.Do {
	case "refused":
		_, err = client.CertificateRequest(ctx, request)
		return refusal(in, err)
	case "session":
		return session(ctx, client, request)
	}

	return nil, fmt.Errorf("cannot do %q", in.Do)
}

// newRequest builds a certificate request; nothing of the CSR's subject gets into it by itself.
func newRequest(in order) (*hvclient.Request, error) {
	var block, _ = pem.Decode([]byte(in.CSR))
	if block == nil {
		return nil, errors.New("no CSR")
	}

	var csr, err = x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, err
	}

	var request = &hvclient.Request{
		Validity: &hvclient.Validity{
			NotBefore: time.Unix(in.NotBefore, 0),
			NotAfter:  time.Unix(in.NotAfter, 0),
		},
		Subject: in.Subject,
	}

	if in.PublicKey {
		request.PublicKey = csr.PublicKey
	} else {
		request.CSR = csr
	}

	if in.ClientAuth {
		request.EKUs = []asn1.ObjectIdentifier{clientAuth}
	}

	return request, nil
}

func connect(ctx context.Context, in order) (*hvclient.Client, error) {
	var config, err = hvclient.NewConfigFromFile(in.Config)
	if err != nil {
		return nil, err
	}

	var roots []byte
	if roots, err = os.ReadFile(in.Roots); err != nil {
		return nil, err
	}

	config.TLSRoots = x509.NewCertPool()
	if !config.TLSRoots.AppendCertsFromPEM(roots) {
		return nil, errors.New("no TLS roots")
	}

	return hvclient.NewClient(ctx, config)
}

func refusal(in order, err error) (map[string]interface{}, error) {
	var told hvclient.APIError
	if in.Do == "refused" && errors.As(err, &told) {
		return map[string]interface{}{"status": told.StatusCode, "description": told.Description}, nil
	}

	if err == nil {
		return nil, errors.New("nothing was refused")
	}

	return nil, err
}

func session(
	ctx context.Context,
	client *hvclient.Client,
	request *hvclient.Request,
) (map[string]interface{}, error) {
	var out = map[string]interface{}{}
	var begin = time.Now().Add(-time.Minute)
	var err error

	if out["policy"], err = client.Policy(ctx); err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}

	var chain []*x509.Certificate
	if chain, err = client.TrustChain(ctx); err != nil {
		return nil, fmt.Errorf("trust chain: %w", err)
	}

	var texts []string
	for _, certificate := range chain {
		texts = append(texts, text(certificate))
	}
	out["chain"] = texts

	if out["quota_before"], err = client.QuotaIssuance(ctx); err != nil {
		return nil, fmt.Errorf("quota: %w", err)
	}

	var serial *big.Int
	if serial, err = client.CertificateRequest(ctx, request); err != nil {
		return nil, fmt.Errorf("request: %w", err)
	}
	out["serial"] = fmt.Sprintf("%x", serial)

	var info *hvclient.CertInfo
	if info, err = client.CertificateRetrieve(ctx, serial); err != nil {
		return nil, fmt.Errorf("retrieve: %w", err)
	}
	out["certificate"] = text(info.X509)
	out["status"] = info.Status.String()

	if out["issued"], out["issued_total"], err = stats(client.StatsIssued(ctx, 1, 100, begin, time.Time{})); err != nil {
		return nil, fmt.Errorf("issued: %w", err)
	}

	err = client.CertificateRevokeWithReason(ctx, serial, hvclient.RevocationReasonSuperseded, 0)
	if err != nil {
		return nil, fmt.Errorf("revoke: %w", err)
	}

	if info, err = client.CertificateRetrieve(ctx, serial); err != nil {
		return nil, fmt.Errorf("retrieve revoked: %w", err)
	}
	out["status_at_last"] = info.Status.String()

	if out["revoked"], out["revoked_total"], err = stats(client.StatsRevoked(ctx, 1, 100, begin, time.Time{})); err != nil {
		return nil, fmt.Errorf("revoked: %w", err)
	}

	if out["counted_issued"], err = client.CounterCertsIssued(ctx); err != nil {
		return nil, fmt.Errorf("issued counter: %w", err)
	}

	if out["counted_revoked"], err = client.CounterCertsRevoked(ctx); err != nil {
		return nil, fmt.Errorf("revoked counter: %w", err)
	}

	if out["quota_after"], err = client.QuotaIssuance(ctx); err != nil {
		return nil, fmt.Errorf("quota: %w", err)
	}

	return out, nil
}

func stats(found []hvclient.CertMeta, total int64, err error) ([]listed, int64, error) {
	var all []listed
	for _, each := range found {
		all = append(all, listed{Serial: fmt.Sprintf("%x", each.SerialNumber), Begin: each.NotBefore.Unix()})
	}

	return all, total, err
}

func text(certificate *x509.Certificate) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Raw}))
}
