package api_test

import (
	"archive/zip"
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
)

// tamper returns the archive with one byte more in app.py, its signature file
// and everything else as it was.
func tamper(t *testing.T, archive []byte) []byte {
	t.Helper()
	from, err := zip.NewReader(bytes.NewReader(archive), int64(len(archive)))
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	to := zip.NewWriter(&b)
	found := false
	for _, f := range from.File {
		if f.Name != "app.py" {
			if err := to.Copy(f); err != nil {
				t.Fatal(err)
			}
			continue
		}
		found = true
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(r)
		w, err2 := to.Create(f.Name)
		if err = errors.Join(err, err2); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(append(body, '#')); err != nil {
			t.Fatal(err)
		}
	}
	if err := to.Close(); err != nil || !found {
		t.Fatal(err, found)
	}
	return b.Bytes()
}

// TestAdmission deploys every kind of package under every kind of policy by
// every way there is (lambda-code-signing, sections 2 to 4): the sentence the
// product is for.
func TestAdmission(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	bucket := w.bucket("code")
	trusted, other := w.profile("trusted"), w.profile("other")
	unsigned := helloZip(t)
	good, goodKey, goodJob := w.signed(bucket, "trusted", unsigned)
	wrong, wrongKey, wrongJob := w.signed(bucket, "other", unsigned)
	bad := tamper(t, good)
	w.put(bucket, "unsigned.zip", unsigned)
	w.put(bucket, "tampered.zip", bad)
	type pack struct {
		body []byte
		key  string // in the bucket
		// What a function that runs it shows.
		profile, job string
	}
	packs := map[string]pack{
		"unsigned":      {unsigned, "unsigned.zip", "", ""},
		"signed":        {good, goodKey, trusted, goodJob},
		"tampered":      {bad, "tampered.zip", "", ""},
		"other profile": {wrong, wrongKey, other, wrongJob},
	}
	const (
		unproper   = "Lambda cannot deploy the function. The function or layer code is not properly signed. This can mean that the code was signed incorrectly or modified after it was signed. Check the provided signature for %."
		unaccepted = "Lambda cannot deploy the function. The function or layer might be signed using a signature that the client is not configured to accept. Check the provided signature for %."
	)
	// The sentence of the refusal; a pair that is not here deploys.
	refusals := map[[2]string]string{
		{"Warn", "tampered"}:         unproper,
		{"Enforce", "tampered"}:      unproper,
		{"Enforce", "unsigned"}:      unaccepted,
		{"Enforce", "other profile"}: unaccepted,
	}
	configs := map[string]string{"none": "", "Warn": w.config("Warn", trusted), "Enforce": w.config("Enforce", trusted)}
	for policy, config := range configs {
		for kind, p := range packs {
			sentence, no := refusals[[2]string{policy, kind}]
			short := strings.ToLower(policy + "-" + strings.ReplaceAll(kind, " ", "-"))
			for way, code := range map[string]object{"direct": {"ZipFile": p.body}, "s3": {"S3Bucket": bucket, "S3Key": p.key}} {
				name := short + "-" + way
				what := policy + ", " + kind + ", " + way
				check := func(verb string, m map[string]any) {
					t.Helper()
					checkValues(t, what+": "+verb, m, object{"CodeSha256": base64Sum(p.body), "CodeSize": len(p.body)})
					var profile, job any
					if p.profile != "" {
						profile, job = p.profile, p.job
					}
					if m["SigningProfileVersionArn"] != profile || m["SigningJobArn"] != job {
						t.Errorf("%s: %s: got %v and %v, want %v and %v", what, verb, m["SigningProfileVersionArn"], m["SigningJobArn"], profile, job)
					}
				}
				refused := func(verb, subject string, r *reply) {
					t.Helper()
					r.refused(t, what+": "+verb, capital(400, "CodeVerificationFailedException", strings.Replace(sentence, "%", subject, 1)))
				}

				// Created with it: the subject is the bare name.
				in := newFunction(name, nil, object{"Code": code})
				if config != "" {
					in["CodeSigningConfigArn"] = config
				}
				made := w.do("POST", functions, in)
				if no {
					refused("create", name, made)
					w.do("GET", functions+"/"+name, nil).refused(t, what, notFound("Function not found: "+w.fn(name)))
				} else {
					check("create", made.accepted(t, what+": create", 201))
					check("settled", w.settled(name))
				}

				// Updated to it: the subject is the function's ARN.
				name += "-2"
				start := newFunction(name, nil, object{"Code": object{"ZipFile": good}})
				if config != "" {
					start["CodeSigningConfigArn"] = config
				}
				w.do("POST", functions, start).accepted(t, what+": create signed", 201)
				before := w.settled(name)
				for _, dry := range []bool{true, false} {
					change := object{"DryRun": dry}
					for k, v := range code {
						change[k] = v
					}
					out := w.do("PUT", functions+"/"+name+"/code", change)
					if no {
						refused("update", w.fn(name), out)
					} else {
						check("update", out.accepted(t, what+": update", 200))
					}
					after := w.settled(name)
					if no || dry {
						checkValues(t, what+": nothing changed", after, object{"CodeSha256": before["CodeSha256"], "RevisionId": before["RevisionId"], "SigningJobArn": goodJob})
					} else {
						check("updated", after)
						check("updated and published", w.do("POST", functions+"/"+name+"/versions", object{}).accepted(t, what+": publish", 201))
						list := w.do("GET", functions+"/"+name+"/versions", nil).accepted(t, what+": list", 200)["Versions"].([]any)
						check("listed", list[len(list)-1].(map[string]any))
					}
				}
			}
		}
	}
}

// A configuration is asked as it is at the moment of a deployment, and an
// entry without a version stands for every version of its profile.
func TestAdmissionFollowsTheConfiguration(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	bucket := w.bucket("code")
	trusted := w.profile("trusted")
	good, _, _ := w.signed(bucket, "trusted", helloZip(t))
	config := w.config("Warn", w.arn("nobody"))
	w.create("fn", object{"CodeSigningConfigArn": config})
	deploy := func(what string, code []byte, status int) {
		t.Helper()
		out := w.do("PUT", functions+"/fn/code", object{"ZipFile": code})
		if out.status != status {
			t.Errorf("%s: got %d %s, want %d", what, out.status, out.body, status)
		}
		w.settled("fn")
	}
	change := func(in object) {
		t.Helper()
		w.do("PUT", configPath(config), in).accepted(t, "change configuration", 200)
	}
	deploy("Warn, unsigned", zipOf(t, "app.py", hello+"#"), 200)
	change(object{"CodeSigningPolicies": object{"UntrustedArtifactOnDeployment": "Enforce"}})
	deploy("Enforce, unsigned", helloZip(t), 400)
	deploy("Enforce, nobody's", good, 400)
	change(object{"AllowedPublishers": object{"SigningProfileVersionArns": []string{trusted}}})
	deploy("Enforce, allowed", good, 200)
	profile := trusted[:strings.LastIndexByte(trusted, '/')]
	change(object{"AllowedPublishers": object{"SigningProfileVersionArns": []string{profile}}})
	deploy("Enforce, allowed without a version", good, 200)
	change(object{"AllowedPublishers": object{"SigningProfileVersionArns": []string{profile[:len(profile)-1]}}})
	deploy("Enforce, a profile of which the name is a beginning", good, 400)
	w.do("DELETE", attachPath("fn"), nil).accepted(t, "detach", 204)
	deploy("detached, unsigned", helloZip(t), 200)
}
