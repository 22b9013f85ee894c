import static org.eclipse.leshan.client.object.Security.pskBootstrap;
import static org.eclipse.leshan.client.object.Security.x509Bootstrap;
import static org.eclipse.leshan.core.LwM2mId.DEVICE;
import static org.eclipse.leshan.core.LwM2mId.SECURITY;
import static org.eclipse.leshan.core.LwM2mId.SERVER;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.GeneralSecurityException;
import java.security.KeyFactory;
import java.security.MessageDigest;
import java.security.PrivateKey;
import java.security.Signature;
import java.security.cert.Certificate;
import java.security.cert.CertificateFactory;
import java.security.spec.PKCS8EncodedKeySpec;
import java.util.EnumSet;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import org.eclipse.leshan.client.LeshanClient;
import org.eclipse.leshan.client.LeshanClientBuilder;
import org.eclipse.leshan.client.californium.endpoint.CaliforniumClientEndpointsProvider;
import org.eclipse.leshan.client.californium.endpoint.coaps.CoapsClientProtocolProvider;
import org.eclipse.leshan.client.engine.DefaultRegistrationEngineFactory;
import org.eclipse.leshan.client.object.Device;
import org.eclipse.leshan.client.object.Security;
import org.eclipse.leshan.client.object.Server;
import org.eclipse.leshan.client.observer.LwM2mClientObserverAdapter;
import org.eclipse.leshan.client.resource.ObjectsInitializer;
import org.eclipse.leshan.client.servers.LwM2mServer;
import org.eclipse.leshan.core.CertificateUsage;
import org.eclipse.leshan.core.ResponseCode;
import org.eclipse.leshan.core.node.LwM2mObject;
import org.eclipse.leshan.core.node.LwM2mObjectInstance;
import org.eclipse.leshan.core.node.LwM2mResource;
import org.eclipse.leshan.core.request.BindingMode;
import org.eclipse.leshan.core.request.BootstrapRequest;
import org.eclipse.leshan.core.request.ContentFormat;
import org.eclipse.leshan.core.request.ReadRequest;
import org.eclipse.leshan.core.request.RegisterRequest;
import org.eclipse.leshan.core.util.datatype.ULong;

/**
 * One device that bootstraps with Eclipse Leshan's client library, and says on standard output what came of it, one
 * JSON object a line. It ends with 0 when all that it was to do succeeded.
 *
 * <p>Its words are {@code name=value}: {@code endpoint}, {@code server} (URI), {@code mode} (psk or x509); for psk
 * {@code identity} and {@code key} (hexadecimal); for x509 the files {@code certificate}, {@code key} (PKCS#8, DER) and
 * {@code anchor}, by which it checks the server. May be said: {@code format} (the number it prefers, or none),
 * {@code account} (instance of its bootstrap account), {@code rounds} (bootstraps one after the other) and
 * {@code register} (true: after each it registers with what it was given).
 */
public class LeshanDevice extends LwM2mClientObserverAdapter {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final HexFormat HEX = HexFormat.of();
    private static final int MODE = 2, PUBLIC_KEY = 3, SECRET_KEY = 5, X509 = 2;

    private final BlockingQueue<Boolean> bootstraps = new LinkedBlockingQueue<>();
    private final BlockingQueue<Boolean> registrations = new LinkedBlockingQueue<>();
    private final Map<String, String> said;

    private LeshanDevice(Map<String, String> said) {
        this.said = said;
    }

    public static void main(String[] words) throws Exception {
        Map<String, String> said = new LinkedHashMap<>();
        for (String word : words) {
            String[] pair = word.split("=", 2);
            said.put(pair[0], pair[1]);
        }
        System.exit(new LeshanDevice(said).lives() ? 0 : 1);
    }

    private boolean lives() throws Exception {
        LeshanClient client = made();
        client.addObserver(this);
        client.start();
        boolean succeeds = bootstrapped(client);
        for (int left = Integer.parseInt(said.getOrDefault("rounds", "1")); succeeds && left > 1; left--) {
            client.triggerClientInitiatedBootstrap(false);
            succeeds = bootstrapped(client);
        }
        client.destroy(succeeds);
        return succeeds;
    }

    /** Waits for the end of a bootstrap, and of the registration after it. */
    private boolean bootstrapped(LeshanClient client) throws Exception {
        if (!bootstraps.take() || (registers() && !registrations.take())) {
            return false;
        }
        show(client);
        return true;
    }

    /** Whether it is to register; the library tries to in any case. */
    private boolean registers() {
        return said.containsKey("register");
    }

    private LeshanClient made() throws IOException {
        Security account = account();
        account.setId(Integer.parseInt(said.getOrDefault("account", "0")));
        ObjectsInitializer objects = new ObjectsInitializer();
        objects.setInstancesForObject(SECURITY, account);
        objects.setClassForObject(SERVER, Server.class);
        objects.setInstancesForObject(DEVICE, new Device("Firstlight", "test", "1", EnumSet.of(BindingMode.U)));

        DefaultRegistrationEngineFactory engine = new DefaultRegistrationEngineFactory();
        String format = said.get("format");
        if (format != null) {
            engine.setPreferredContentFormat(format.equals("none") ? null : ContentFormat.fromCode(format));
        }
        LeshanClientBuilder builder = new LeshanClientBuilder(said.get("endpoint"));
        builder.setObjects(objects.create(SECURITY, SERVER, DEVICE));
        builder.setRegistrationEngineFactory(engine);
        builder.setEndpointsProviders(
                new CaliforniumClientEndpointsProvider.Builder(new CoapsClientProtocolProvider()).build());
        return builder.build();
    }

    private Security account() throws IOException {
        if (said.get("mode").equals("psk")) {
            byte[] identity = said.get("identity").getBytes(StandardCharsets.UTF_8);
            return pskBootstrap(said.get("server"), identity, HEX.parseHex(said.get("key")));
        }
        byte[] certificate = Files.readAllBytes(Path.of(said.get("certificate")));
        byte[] key = Files.readAllBytes(Path.of(said.get("key")));
        byte[] anchor = Files.readAllBytes(Path.of(said.get("anchor")));
        return x509Bootstrap(
                said.get("server"), certificate, key, anchor, CertificateUsage.TRUST_ANCHOR_ASSERTION.code);
    }

    // -- what it holds ---------------------------------------------------

    private static void show(LeshanClient client) throws GeneralSecurityException {
        for (int number : new int[] {SECURITY, SERVER}) {
            LwM2mObject object = (LwM2mObject) client.getObjectTree()
                    .getObjectEnabler(number)
                    .read(LwM2mServer.SYSTEM, new ReadRequest(number))
                    .getContent();
            for (LwM2mObjectInstance instance : new TreeMap<>(object.getInstances()).values()) {
                Map<String, Object> resources = new TreeMap<>();
                for (LwM2mResource resource : instance.getResources().values()) {
                    boolean secret = number == SECURITY && resource.getId() == SECRET_KEY;
                    resources.put(String.valueOf(resource.getId()), shown(resource, secret));
                }
                Map<String, Object> line = new LinkedHashMap<>();
                line.put("path", "/" + number + "/" + instance.getId());
                line.put("resources", resources);
                if (number == SECURITY && ((Long) instance.getResource(MODE).getValue()) == X509) {
                    line.put("key_fits", fits(instance));
                }
                say("instance", line);
            }
        }
    }

    private static Object shown(LwM2mResource resource, boolean secret) throws GeneralSecurityException {
        if (resource.isMultiInstances()) {
            return String.valueOf(resource.getInstances());
        }
        Object value = resource.getValue();
        if (value instanceof byte[]) {
            byte[] bytes = (byte[]) value;
            return HEX.formatHex(secret ? MessageDigest.getInstance("SHA-256").digest(bytes) : bytes);
        }
        return value instanceof ULong ? ((ULong) value).longValue() : value instanceof Number ? value
                : value instanceof Boolean ? value : String.valueOf(value);
    }

    /** Whether what the secret key signs is verified by the certificate. */
    private static boolean fits(LwM2mObjectInstance instance) throws GeneralSecurityException {
        byte[] certificate = (byte[]) instance.getResource(PUBLIC_KEY).getValue();
        byte[] secret = (byte[]) instance.getResource(SECRET_KEY).getValue();
        Certificate held =
                CertificateFactory.getInstance("X.509").generateCertificate(new ByteArrayInputStream(certificate));
        PrivateKey key = KeyFactory.getInstance("EC").generatePrivate(new PKCS8EncodedKeySpec(secret));
        Signature signature = Signature.getInstance("SHA256withECDSA");
        signature.initSign(key);
        signature.update(certificate);
        byte[] signed = signature.sign();
        signature.initVerify(held);
        signature.update(certificate);
        return signature.verify(signed);
    }

    // -- what happens to it ----------------------------------------------

    @Override
    public void onBootstrapStarted(LwM2mServer server, BootstrapRequest request) {
        ContentFormat format = request.getPreferredContentFormat();
        say("started", Map.of("format", format == null ? "none" : format.getCode()));
    }

    @Override
    public void onBootstrapSuccess(LwM2mServer server, BootstrapRequest request) {
        say("succeeded", Map.of());
        bootstraps.add(true);
    }

    @Override
    public void onBootstrapFailure(
            LwM2mServer server, BootstrapRequest request, ResponseCode code, String message, Exception cause) {
        say("failed", told(code, message, cause));
        bootstraps.add(false);
    }

    @Override
    public void onBootstrapTimeout(LwM2mServer server, BootstrapRequest request) {
        say("failed", Map.of("cause", "timeout"));
        bootstraps.add(false);
    }

    @Override
    public void onRegistrationSuccess(LwM2mServer server, RegisterRequest request, String location) {
        register(true, Map.of("location", location));
    }

    @Override
    public void onRegistrationFailure(
            LwM2mServer server, RegisterRequest request, ResponseCode code, String message, Exception cause) {
        register(false, told(code, message, cause));
    }

    @Override
    public void onRegistrationTimeout(LwM2mServer server, RegisterRequest request) {
        register(false, Map.of("cause", "timeout"));
    }

    private void register(boolean succeeds, Map<String, Object> more) {
        if (registers()) {
            say(succeeds ? "registered" : "not_registered", more);
            registrations.add(succeeds);
        }
    }

    @Override
    public void onUnexpectedError(Throwable cause) {
        say("failed", Map.of("cause", String.valueOf(cause)));
        bootstraps.add(false);
        registrations.add(false);
    }

    private static Map<String, Object> told(ResponseCode code, String message, Exception cause) {
        Map<String, Object> line = new LinkedHashMap<>();
        line.put("code", code == null ? null : code.toString());
        line.put("message", message);
        line.put("cause", cause == null ? null : String.valueOf(cause.getCause() == null ? cause : cause.getCause()));
        return line;
    }

    private static synchronized void say(String event, Map<String, Object> more) {
        Map<String, Object> line = new LinkedHashMap<>();
        line.put("event", event);
        line.putAll(more);
        try {
            System.out.println(JSON.writeValueAsString(line));
        } catch (JsonProcessingException impossible) {
            throw new IllegalStateException(impossible);
        }
    }
}
