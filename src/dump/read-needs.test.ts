import assert from 'node:assert/strict'
import { test } from 'node:test'
import { readNeeds, renameDatabase } from './read-needs.ts'

const SCRIPT = `
-- Name: x; Type: DATABASE; Schema: -; Owner: nobody; Tablespace: nowhere
CREATE DATABASE "My shop" WITH TEMPLATE = template0 ENCODING = 'UTF8' TABLESPACE = fast;
ALTER DATABASE "My shop" OWNER TO db_owner;
\\connect -reuse-previous=on "dbname='My shop'"
SET default_tablespace = '';
CREATE FUNCTION public.f(a text DEFAULT ' OWNER TO nobody') RETURNS int LANGUAGE sql
    AS $$ SET default_tablespace = nowhere; ALTER TABLE t OWNER TO nobody; $$;
ALTER FUNCTION public.f(a text) OWNER TO "Fn ""Owner";
SET default_tablespace = "Space One";
CREATE TABLE public.t (a text DEFAULT 'GRANT x TO nobody');
ALTER TABLE public.t OWNER TO t_owner;
COMMENT ON TABLE public.t IS 'a; ALTER TABLE x OWNER TO nobody';
CREATE POLICY p ON public.t AS RESTRICTIVE FOR SELECT TO pol_one, "Pol, Two"
  USING ((a <> ' TO nobody'::text));
CREATE POLICY q ON "S x"."T ON y" FOR ALL TO pol_three WITH CHECK (true);
CREATE POLICY r ON public.t USING (true);
GRANT SELECT(a) ON TABLE public.t TO "Gr TO x" WITH GRANT OPTION;
GRANT ALL ON TABLE public.t TO PUBLIC;
SET SESSION AUTHORIZATION grantor;
GRANT ALL ON TABLE public.t TO grantee GRANTED BY t_owner;
RESET SESSION AUTHORIZATION;
REVOKE ALL ON SCHEMA public FROM loser;
ALTER DEFAULT PRIVILEGES FOR ROLE def_owner IN SCHEMA public GRANT SELECT ON TABLES  TO def_grantee;
CREATE USER MAPPING FOR mapped SERVER s OPTIONS (password 'x');
CREATE USER MAPPING FOR PUBLIC SERVER s;
`

test('roles by what needs them, tablespaces and the database', () => {
  const { roles, tablespaces, createDatabase } = readNeeds(SCRIPT)
  assert.deepEqual(Object.fromEntries(roles), {
    db_owner: ['owner'],
    'Fn "Owner': ['owner'],
    t_owner: ['owner'],
    pol_one: ['policy'],
    'Pol, Two': ['policy'],
    pol_three: ['policy'],
    'Gr TO x': ['privileges'],
    grantor: ['privileges'],
    grantee: ['privileges'],
    loser: ['privileges'],
    def_owner: ['privileges'],
    def_grantee: ['privileges'],
    mapped: ['user mapping'],
  })
  assert.deepEqual([...tablespaces], ['Space One'])
  assert.match(createDatabase ?? '', /^CREATE DATABASE "My shop" WITH .* TABLESPACE = fast$/)
})

test('the same database under another name', () => {
  const { createDatabase = '' } = readNeeds(SCRIPT)
  const rest = "WITH TEMPLATE = template0 ENCODING = 'UTF8'"
  assert.equal(
    renameDatabase(createDatabase, '"new"', { withTablespace: true }),
    `CREATE DATABASE "new" ${rest} TABLESPACE = fast`,
  )
  assert.equal(
    renameDatabase(createDatabase, '"new"', { withTablespace: false }),
    `CREATE DATABASE "new" ${rest}`,
  )
  assert.equal(renameDatabase('CREATE DATABASE x', '"y"', { withTablespace: true }), undefined)
})
