/** `mctl config renew`: a fresh key and certificate for a context, and the authorities that the cluster trusts now. */
import { X509Certificate } from 'node:crypto'
import { makeKey, makeRequest, readCertificate } from '../../lib/x509.ts'
import type { Cli } from '../context.ts'
import { CliError, withClient } from '../context.ts'
import { contextOf } from './current.ts'
import { configPath, readConfig, writeConfig } from './file.ts'

interface RenewFlags {
  readonly server?: string
  readonly context?: string
}

export async function renew(cli: Cli, { server, context: named }: RenewFlags): Promise<number> {
  const path = configPath(cli.env)
  const context = contextOf(cli, named)
  if (path === undefined || context === undefined)
    throw new CliError('there is no context to renew\n`mctl config get-contexts` lists those that there are.')
  const { name, certificate } = context
  if (typeof certificate !== 'string')
    throw new CliError(`context "${name}" holds no certificate: its server knows nobody by one`)
  if (!cli.env['MCTL_CONFIG'] && path.endsWith('admin.yaml'))
    throw new CliError(`${path} is the server's: it writes it anew at each start and with each change of authority`)
  const key = await makeKey()
  const requestPem = await makeRequest(key, { commonName: readCertificate(certificate).commonName, organization: '' })
  const reply = await withClient(cli, server, (client) => client.sign({ requestPem }))
  const fresh = { ...context, authority: reply.authorityPem, certificate: reply.certificatePem, key }
  const config = readConfig(path)
  writeConfig(path, { ...config, contexts: config.contexts.map((one) => (one.name === name ? fresh : one)) })
  cli.terminal.out(`Context "${name}" renewed.\n`)
  cli.terminal.err(`Its certificate is good until ${new X509Certificate(reply.certificatePem).validTo}.\n`)
  return 0
}
