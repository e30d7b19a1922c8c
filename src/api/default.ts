/**
 * Defaults: static, pure, stored explicitly, never over what the user wrote. Those that are one value stand in the
 * schema files; those that look at another field stand here. An explicit null means "not set", as in Kubernetes.
 */
import { kinds, isKindName } from './kinds.ts'
import type { KindName } from './kinds.ts'
import type { Manifest } from './meta.ts'
import { DEFAULT_NAMESPACE } from './meta.ts'
import type { JsonSchema } from './schemas.ts'
import { resolveSchema, schemaOf } from './schemas.ts'

/** Ceiling of the default longest answer, in tokens. */
const MAX_DEFAULT_OUTPUT_TOKENS = 4096

type Fields = Readonly<Record<string, unknown>>
/** Answers the very same value when there is nothing to add. */
type Defaulter = (value: unknown) => unknown

/**
 * The manifest with every default filled in; what was given is not touched, and parts that need nothing are shared with
 * it. Wrong types are left as they are for `validate` to name. Give it the whole object: a partial one of server-side
 * apply is defaulted after the merge, or its manager would own every default.
 */
export function applyDefaults(manifest: Manifest): Manifest {
  if (!isKindName(manifest.kind)) return manifest
  const filled = defaulterOf(manifest.kind)(withNamespace(manifest, manifest.kind)) as Manifest
  const spec = filled['spec']
  if (manifest.kind === 'ModelDeployment' && isFields(spec)) return withSpec(filled, deploymentSpec(spec, filled))
  return manifest.kind === 'Node' ? withTransports(filled) : filled
}

const isFields = (value: unknown): value is Fields =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

const withSpec = (manifest: Manifest, spec: Fields): Manifest =>
  spec === manifest['spec'] ? manifest : { ...manifest, spec }

function withNamespace(manifest: Manifest, kind: KindName): Manifest {
  const { metadata } = manifest
  if (!kinds[kind].namespaced || !isFields(metadata)) return manifest
  if (metadata.namespace !== undefined && metadata.namespace !== null) return manifest
  return { ...manifest, metadata: { ...metadata, namespace: DEFAULT_NAMESPACE } }
}

/** Engines of thin, hand-written nodes: llama.cpp talks Rpc, the others Ring. */
function withTransports(node: Manifest): Manifest {
  const status = node['status']
  const engines = isFields(status) ? status['engines'] : undefined
  if (!isFields(status) || !Array.isArray(engines)) return node
  const filled = mapShared(engines, (engine) => {
    if (!isFields(engine) || engine['transports'] !== undefined) return engine
    return { ...engine, transports: engine['name'] === 'llamacpp' ? ['Rpc'] : ['Ring'] }
  })
  return filled === engines ? node : { ...node, status: { ...status, engines: filled } }
}

/** A default that looks at another field is left out when that one is broken: the user did not write it. */
function deploymentSpec(spec: Fields, manifest: Manifest): Fields {
  const { serving, parallelism } = spec
  const name: unknown = isFields(manifest.metadata) ? manifest.metadata.name : undefined
  let filled = spec
  if (spec['servedName'] === undefined && typeof name === 'string' && /^[a-z0-9][-a-z0-9]*$/.test(name))
    filled = { ...filled, servedName: name }
  if (isFields(parallelism) && parallelism['strategy'] === 'Single')
    filled = { ...filled, parallelism: { ...parallelism, strategy: 'Data' } }
  const contextTokens = isFields(serving) ? serving['contextTokens'] : undefined
  if (isFields(serving) && serving['maxOutputTokens'] === undefined && isTokenCount(contextTokens))
    filled = {
      ...filled,
      serving: { ...serving, maxOutputTokens: Math.min(MAX_DEFAULT_OUTPUT_TOKENS, contextTokens) },
    }
  return filled
}

const isTokenCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) > 0

const defaulters = new Map<KindName, Defaulter>()

function defaulterOf(kind: KindName): Defaulter {
  let defaulter = defaulters.get(kind)
  if (defaulter === undefined) {
    const home = schemaOf(kind)
    defaulter = compile(home, home) ?? ((value) => value)
    defaulters.set(kind, defaulter)
  }
  return defaulter
}

/** The schema as a function that fills a value; undefined when nothing below it has a default or may be null. */
function compile(unresolved: JsonSchema, unresolvedHome: JsonSchema): Defaulter | undefined {
  const { schema, home } = resolveSchema(unresolved, unresolvedHome)
  if (isQuantity(schema)) return (value) => (typeof value === 'number' ? String(value) : value)
  if (schema.properties !== undefined) return compileObject(schema.properties, home)
  const item = schema.items === undefined ? undefined : compile(schema.items, home)
  return item === undefined ? undefined : (value) => (Array.isArray(value) ? mapShared(value, item) : value)
}

const isQuantity = (schema: JsonSchema): boolean => String(schema.type) === 'string,number'

function mapShared(list: readonly unknown[], item: Defaulter): readonly unknown[] {
  const mapped = list.map(item)
  return mapped.every((value, index) => value === list[index]) ? list : mapped
}

interface Property {
  readonly key: string
  readonly nullable: boolean
  readonly fallback: unknown
  readonly child: Defaulter | undefined
}

function compileObject(properties: Readonly<Record<string, JsonSchema>>, home: JsonSchema): Defaulter {
  const rules = Object.entries(properties).map(([key, property]) => compileProperty(key, property, home))
  return (value) => {
    if (!isFields(value)) return value
    let filled: Record<string, unknown> | undefined
    for (const rule of rules) {
      const old = value[rule.key]
      const fresh = fillProperty(rule, old)
      if (fresh === old) continue
      filled ??= { ...value }
      if (fresh === undefined) delete filled[rule.key]
      else filled[rule.key] = fresh
    }
    return filled ?? value
  }
}

function compileProperty(key: string, property: JsonSchema, home: JsonSchema): Property {
  const resolved = resolveSchema(property, home)
  const child = compile(property, home)
  const { default: plain, type } = resolved.schema
  const fallback = plain === undefined || child === undefined ? plain : child(plain)
  return { key, nullable: Array.isArray(type) && type.includes('null'), fallback: deepFreeze(fallback), child }
}

function fillProperty(rule: Property, value: unknown): unknown {
  if (value === undefined || (value === null && !rule.nullable)) return rule.fallback
  return rule.child === undefined ? value : rule.child(value)
}

/** Defaults are shared by all objects that take them, so nobody may write into them. */
function deepFreeze(value: unknown): unknown {
  if (typeof value !== 'object' || value === null) return value
  for (const part of Object.values(value)) deepFreeze(part)
  return Object.freeze(value)
}
