// An agent that knows nothing of Tollgate: asks by the client that comes with Java, in HTTP/2 where
// the server offers it. Ends with the exit code 1 if that fails.

import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;

class Agent {
  public static void main(String[] arguments) throws Exception {
    var ask = """
        {"model": "gpt-4o", "max_tokens": 100, "messages": [{"role": "user", "content": "Hi"}]}""";
    var request = HttpRequest.newBuilder(URI.create("https://api.openai.com/v1/chat/completions"))
        .header("content-type", "application/json")
        .header("authorization", "Bearer sk-test")
        .POST(HttpRequest.BodyPublishers.ofString(ask))
        .build();
    var answer = HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString());
    System.out.println(answer.version() + " " + answer.statusCode() + " " + answer.body());
    System.exit(answer.statusCode() == 200 ? 0 : 1);
  }
}
