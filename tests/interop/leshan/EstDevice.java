import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.ByteArrayInputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyFactory;
import java.security.PrivateKey;
import java.security.cert.CertificateFactory;
import java.security.cert.X509Certificate;
import java.security.spec.PKCS8EncodedKeySpec;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.eclipse.californium.core.coap.BlockOption;
import org.eclipse.californium.core.coap.CoAP;
import org.eclipse.californium.core.coap.Request;
import org.eclipse.californium.core.coap.Response;
import org.eclipse.californium.core.config.CoapConfig;
import org.eclipse.californium.core.network.CoapEndpoint;
import org.eclipse.californium.elements.config.Configuration;
import org.eclipse.californium.scandium.DTLSConnector;
import org.eclipse.californium.scandium.config.DtlsConfig;
import org.eclipse.californium.scandium.config.DtlsConfig.DtlsRole;
import org.eclipse.californium.scandium.config.DtlsConnectorConfig;
import org.eclipse.californium.scandium.dtls.CertificateType;
import org.eclipse.californium.scandium.dtls.MaxFragmentLengthExtension.Length;
import org.eclipse.californium.scandium.dtls.cipher.CipherSuite;
import org.eclipse.californium.scandium.dtls.x509.SingleCertificateProvider;
import org.eclipse.californium.scandium.dtls.x509.StaticNewAdvancedCertificateVerifier;

/**
 * One device that speaks EST over CoAP (RFC 9148) with Eclipse Californium on one association, and says on standard
 * output what it was answered, one JSON object a line.
 *
 * <p>Its words are {@code name=value}: {@code server} (URI), the files {@code certificate}, {@code key} (PKCS#8, DER)
 * and {@code anchor}, {@code block} (bytes), and any number of {@code ask}: method, path, and, where they are sent,
 * Accept, Content-Format and a file with the payload, with commas between. May be said: {@code record} (the longest
 * record it takes, max_fragment_length) and {@code early} (true: it names the size of its blocks with each request).
 */
public class EstDevice {
    private static final ObjectMapper JSON = new ObjectMapper();

    private final Map<String, String> said = new LinkedHashMap<>();
    private final List<String[]> asks = new ArrayList<>();

    public static void main(String[] words) throws Exception {
        EstDevice device = new EstDevice();
        for (String word : words) {
            String[] pair = word.split("=", 2);
            if (pair[0].equals("ask")) {
                device.asks.add(pair[1].split(",", -1));
            } else {
                device.said.put(pair[0], pair[1]);
            }
        }
        System.exit(device.lives() ? 0 : 1);
    }

    /** Whether each of its requests was answered, be it with a refusal. */
    private boolean lives() throws Exception {
        CoapEndpoint endpoint = endpoint();
        endpoint.start();
        for (String[] ask : asks) {
            Request request = request(ask);
            request.send(endpoint);
            Response response = request.waitForResponse();
            if (response == null) {
                System.err.println("no answer to " + String.join(" ", ask) + ": " + request.getSendError());
                return false;
            }
            show(ask, response);
        }
        endpoint.destroy();
        return true;
    }

    private Request request(String[] ask) throws Exception {
        Request request = new Request(CoAP.Code.valueOf(ask[0]));
        request.setURI(said.get("server") + ask[1]);
        if (!ask[2].isEmpty()) {
            request.getOptions().setAccept(Integer.parseInt(ask[2]));
        }
        if (!ask[3].isEmpty()) {
            request.getOptions().setContentFormat(Integer.parseInt(ask[3]));
        }
        if (!ask[4].isEmpty()) {
            request.setPayload(Files.readAllBytes(Path.of(ask[4])));
        }
        if (said.containsKey("early")) {
            request.getOptions().setBlock2(BlockOption.size2Szx(block()), false, 0);
        }
        return request;
    }

    private static void show(String[] ask, Response response) throws Exception {
        Map<String, Object> line = new LinkedHashMap<>();
        line.put("asked", ask[1]);
        line.put("code", response.getCode().text);
        line.put("format", response.getOptions().hasContentFormat() ? response.getOptions().getContentFormat() : null);
        line.put("payload", HexFormat.of().formatHex(response.getPayload()));
        System.out.println(JSON.writeValueAsString(line));
    }

    private CoapEndpoint endpoint() throws Exception {
        Configuration configuration = Configuration.createStandardWithoutFile();
        configuration.set(CoapConfig.PREFERRED_BLOCK_SIZE, block());
        configuration.set(CoapConfig.MAX_MESSAGE_SIZE, block());
        configuration.set(DtlsConfig.DTLS_ROLE, DtlsRole.CLIENT_ONLY);
        // The suite that RFC 9148 4 has everybody know.
        configuration.setAsList(DtlsConfig.DTLS_CIPHER_SUITES, CipherSuite.TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8);
        if (said.containsKey("record")) {
            configuration.set(DtlsConfig.DTLS_MAX_FRAGMENT_LENGTH, Length.valueOf("BYTES_" + said.get("record")));
        }
        DtlsConnectorConfig.Builder dtls = new DtlsConnectorConfig.Builder(configuration);
        dtls.setAdvancedCertificateVerifier(StaticNewAdvancedCertificateVerifier.builder()
                .setTrustedCertificates(certificate(said.get("anchor")))
                .build());
        byte[] key = Files.readAllBytes(Path.of(said.get("key")));
        PrivateKey own = KeyFactory.getInstance("EC").generatePrivate(new PKCS8EncodedKeySpec(key));
        X509Certificate[] chain = {certificate(said.get("certificate"))};
        dtls.setCertificateIdentityProvider(new SingleCertificateProvider(own, chain, CertificateType.X_509));
        return new CoapEndpoint.Builder()
                .setConfiguration(configuration)
                .setConnector(new DTLSConnector(dtls.build()))
                .build();
    }

    private int block() {
        return Integer.parseInt(said.get("block"));
    }

    private static X509Certificate certificate(String file) throws Exception {
        byte[] encoded = Files.readAllBytes(Path.of(file));
        return (X509Certificate)
                CertificateFactory.getInstance("X.509").generateCertificate(new ByteArrayInputStream(encoded));
    }
}
