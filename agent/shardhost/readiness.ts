/** Ready is proved, not believed: the leader's engine must answer a completion of one token over its own HTTP. */
import { request } from 'node:http'

const TRY_TIMEOUT_MS = 60_000

/** One try. Undefined when the engine answered with a completion, else what was wrong with it. */
export function completeOneToken(
  enginePort: number,
  servedName: string,
  limitMs = TRY_TIMEOUT_MS,
): Promise<string | undefined> {
  const body = JSON.stringify({ model: servedName, prompt: 'a', max_tokens: 1, temperature: 0 })
  const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body), connection: 'close' }
  const options = { host: '127.0.0.1', port: enginePort, path: '/v1/completions', method: 'POST', headers }
  return new Promise((resolve) => {
    const call = request({ ...options, agent: false, timeout: limitMs }, (reply) => {
      const chunks: Buffer[] = []
      reply.on('data', (chunk: Buffer) => chunks.push(chunk))
      reply.on('error', (error) => resolve(error.message))
      reply.on('end', () => resolve(problemOf(reply.statusCode ?? 0, Buffer.concat(chunks).toString())))
    })
    call.on('timeout', () => call.destroy(new Error(`no answer within ${limitMs / 1000} s`)))
    call.on('error', (error) => resolve(error.message))
    call.end(body)
  })
}

/** What is wrong with an answer; undefined for a completion. */
export function problemOf(status: number, text: string): string | undefined {
  if (status !== 200) return `HTTP ${status}: ${text.slice(0, 200)}`
  try {
    const answer = JSON.parse(text) as { choices?: unknown } | null
    if (Array.isArray(answer?.choices) && answer.choices.length > 0) return undefined
  } catch {
    // Told below, as for any other text.
  }
  return `no completion in the answer: ${text.slice(0, 200)}`
}
