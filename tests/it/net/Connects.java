import java.net.Socket;
import javax.net.ssl.SSLParameters;
import javax.net.ssl.SSLSocket;
import javax.net.ssl.SSLSocketFactory;

/** Connects to a port of this host and wants a certificate for the host that is named. */
class Connects {
    public static void main(String[] arguments) throws Exception {
        int port = Integer.parseInt(arguments[0]);
        String host = arguments[1];
        var factory = (SSLSocketFactory) SSLSocketFactory.getDefault();
        var plain = new Socket("127.0.0.1", port);
        try (var socket = (SSLSocket) factory.createSocket(plain, host, port, true)) {
            SSLParameters parameters = socket.getSSLParameters();
            parameters.setEndpointIdentificationAlgorithm("HTTPS");
            socket.setSSLParameters(parameters);
            socket.startHandshake();
        }
        System.out.println("connected");
    }
}
