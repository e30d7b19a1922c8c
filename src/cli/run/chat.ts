/** `mctl chat MODEL [PROMPT]`: a conversation through the gateway, streamed, with tokens per second at the end. */
import { messageOf } from '../../lib/errors.ts'
import { credentialsFor } from '../config/signin.ts'
import type { Gateway, Turn } from './ask.ts'
import { ask } from './ask.ts'
import type { Define } from '../commandform.ts'
import { examples, serverOption } from '../commandform.ts'
import type { Cli } from '../context.ts'
import { CliError, serverAddress, withClient } from '../context.ts'
import { failureOf, tell } from '../errors.ts'

export interface ChatFlags {
  readonly server?: string
  readonly gateway?: string
  readonly system?: string
  readonly maxTokens?: string
  readonly temperature?: string
}

export const defineChat: Define = (command, cli, done) => {
  command
    .argument('<model>')
    .argument('[prompt]')
    .addOption(serverOption())
    .option('--gateway <address>', 'address of the gateway (default: the one that the server names)')
    .option('--system <text>', 'system message')
    .option('--max-tokens <n>', 'at most so many tokens out')
    .option('--temperature <t>', '0: always the most likely token')
    .addHelpText('after', examples('mctl chat smollm2 "What is the capital of France?"'))
    .action(async (model: string, prompt: string | undefined, flags: ChatFlags) =>
      done(await chat(cli, model, prompt, flags)),
    )
}

export async function chat(cli: Cli, model: string, prompt: string | undefined, flags: ChatFlags): Promise<number> {
  const settings = {
    model,
    ...(flags.maxTokens === undefined ? {} : { max_tokens: maxTokensOf(flags.maxTokens) }),
    ...(flags.temperature === undefined ? {} : { temperature: temperatureOf(flags.temperature) }),
  }
  const credentials = credentialsFor(cli, serverAddress(cli, flags.server))
  const url =
    flags.gateway === undefined ? await gatewayOf(cli, flags.server) : urlOf(flags.gateway, credentials !== undefined)
  const base: Gateway = { url, authorityPem: credentials?.authorityPem, key: cli.env['MCTL_API_KEY'] || undefined }
  const system: Turn[] = flags.system === undefined ? [] : [{ role: 'system', content: flags.system }]
  if (prompt === undefined) return converse(cli, base, settings, system)
  await ask(cli, base, { ...settings, messages: [...system, { role: 'user', content: prompt }] })
  return 0
}

/** Line by line until the end of input. A question that failed is not part of what was said. */
async function converse(cli: Cli, base: Gateway, settings: object, system: readonly Turn[]): Promise<number> {
  let turns = system
  let exitCode = 0
  for (;;) {
    const line = await cli.terminal.question('> ')
    if (line === undefined || cli.signal.aborted) return exitCode
    if (line.trim() === '') continue
    const asked: readonly Turn[] = [...turns, { role: 'user', content: line }]
    try {
      const content = await ask(cli, base, { ...settings, messages: asked })
      turns = [...asked, { role: 'assistant', content }]
      exitCode = 0
    } catch (error) {
      if (cli.signal.aborted) throw error
      const failure = failureOf(error)
      tell(cli, failure)
      exitCode = failure.exitCode
    }
  }
}

/** Over a network a cluster with identities speaks TLS, unless it was told not to: then its address says http://. */
function urlOf(address: string, hasIdentities: boolean): string {
  const scheme = hasIdentities && !/^(127\.|localhost|\[::1\])/.test(address) ? 'https' : 'http'
  const text = address.includes('://') ? address : `${scheme}://${address}`
  try {
    return new URL(text).origin
  } catch (error) {
    throw new CliError(`--gateway "${address}" is no address: ${messageOf(error)}; use HOST:PORT`)
  }
}

async function gatewayOf(cli: Cli, server: string | undefined): Promise<string> {
  const { gatewayUrl } = await withClient(cli, server, (client) => client.version({}))
  if (gatewayUrl === undefined)
    throw new CliError(
      'the server runs no gateway; start one with `mctl gateway`, and name it with --gateway HOST:PORT',
    )
  return gatewayUrl
}

function maxTokensOf(text: string): number {
  const value = Number(text)
  if (text.trim() === '' || !Number.isInteger(value) || value < 1)
    throw new CliError(`--max-tokens must be an integer greater than or equal to 1, not "${text}"`)
  return value
}

function temperatureOf(text: string): number {
  const value = Number(text)
  if (text.trim() === '' || Number.isNaN(value) || value < 0)
    throw new CliError(`--temperature must be a number greater than or equal to 0, not "${text}"`)
  return value
}
