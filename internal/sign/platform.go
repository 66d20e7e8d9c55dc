package sign

import (
	"slices"

	"countersign"
)

// Platform ids. Only the first has a signer here.
const (
	LambdaPlatform   = "AWSLambda-SHA384-ECDSA"
	NotationPlatform = "Notation-OCI-SHA384-ECDSA"
)

// A Platform is a kind of thing that is signed, in AWS Signer's words. Its
// values lie outside the published model's enums, as the real ones do.
type Platform struct {
	ID, DisplayName, Partner, Target, Category string
	Encryption, Hash                           Options
	Formats                                    Options
	MaxSizeMB                                  int64 // 0 when AWS does not say
	Revocable                                  bool

	// needsMaterial: profiles name a certificate of the owner's own. Those
	// platforms are listed, and sign nothing here.
	needsMaterial bool
}

// Options are the values a platform takes, and the one it takes when none is given.
type Options struct {
	Allowed []string
	Default string
}

func only(v string) Options { return Options{[]string{v}, v} }

// platforms in the order they are listed. What AWS shows for the Notation
// platform beyond its names is not public; what is unknown is left out.
var platforms = []Platform{
	{
		ID: LambdaPlatform, DisplayName: "AWS Lambda", Partner: "AWSLambda", Target: "SHA384-ECDSA", Category: "AWS",
		Encryption: only("ECDSA"), Hash: only("SHA384"), Formats: only("JSONDetached"), MaxSizeMB: 250, Revocable: true,
	},
	{
		ID: "AWSIoTDeviceManagement-SHA256-ECDSA", DisplayName: "AWS IoT Device Management SHA256-ECDSA ", // the space is AWS's
		Partner: "AWSIoTDeviceManagement", Target: "SHA256-ECDSA", Category: "AWS",
		Encryption: only("ECDSA"), Hash: only("SHA256"), Formats: only("JSONDetached"), MaxSizeMB: 2048, needsMaterial: true,
	},
	{
		ID: "AmazonFreeRTOS-TI-CC3220SF", DisplayName: "Amazon FreeRTOS SHA1-RSA CC3220SF-Format",
		Partner: "AmazonFreeRTOS", Target: "SHA1-RSA-TISHA1", Category: "AWS",
		Encryption: only("RSA"), Hash: only("SHA1"), Formats: only("JSONEmbedded"), MaxSizeMB: 16, needsMaterial: true,
	},
	{
		ID: "AmazonFreeRTOS-Default", DisplayName: "Amazon FreeRTOS SHA256-ECDSA",
		Partner: "AmazonFreeRTOS", Target: "SHA256-ECDSA", Category: "AWS",
		Encryption: Options{[]string{"ECDSA", "RSA"}, "ECDSA"}, Hash: only("SHA256"), Formats: only("JSONEmbedded"), MaxSizeMB: 16, needsMaterial: true,
	},
	{
		ID: NotationPlatform, DisplayName: "Notation for container registries", Category: "AWS", Revocable: true,
	},
}

// PlatformByID finds a platform; NotFound when there is none.
func PlatformByID(id string) (Platform, error) {
	for _, p := range platforms {
		if p.ID == id {
			return p, nil
		}
	}
	return Platform{}, countersign.Errorf(countersign.NotFound, "platform with id %s does not exist", id)
}

// A PlatformFilter keeps the platforms whose fields equal its non-empty ones.
type PlatformFilter struct{ Category, Partner, Target string }

// Platforms lists what is signed, by Signer at large if not by this one.
func Platforms(f PlatformFilter, page PageRequest) ([]Platform, string, error) {
	keep := slices.DeleteFunc(slices.Clone(platforms), func(p Platform) bool {
		return f.Category != "" && f.Category != p.Category ||
			f.Partner != "" && f.Partner != p.Partner ||
			f.Target != "" && f.Target != p.Target
	})
	const list = "platforms"
	after, err := page.after(list, f)
	if err != nil {
		return nil, "", err
	}
	if after != "" {
		i := slices.IndexFunc(keep, func(p Platform) bool { return p.ID == after })
		if i < 0 {
			return nil, "", errToken
		}
		keep = keep[i+1:]
	}
	if n := page.limit(); len(keep) > n {
		return keep[:n], nextToken(list, f, keep[n-1].ID), nil
	}
	return keep, "", nil
}
