import com.sun.net.httpserver.HttpServer;
import java.net.InetSocketAddress;
import java.nio.file.Files;
import java.nio.file.Path;

/** The shop in Java: it answers with its pid and with the version that it was started from. */
public class Shop {
    public static void main(String[] arguments) throws Exception {
        String[] version = Files.readString(Path.of("version")).trim().split(":");
        if (version[0].equals("broken")) throw new IllegalStateException("this version is broken");
        byte[] body = (ProcessHandle.current().pid() + " " + version[0] + "\n").getBytes();
        int port = Integer.parseInt(System.getenv("PORT"));
        HttpServer server = HttpServer.create(new InetSocketAddress("127.0.0.1", port), 0);
        server.createContext("/", exchange -> {
            exchange.getResponseHeaders().set("Connection", "close");
            exchange.sendResponseHeaders(200, body.length);
            exchange.getResponseBody().write(body);
            exchange.close();
        });
        server.start();
        if (version.length > 1) {
            Thread.sleep((long) (1000 * Double.parseDouble(version[1])));
            System.exit(1);
        }
    }
}
