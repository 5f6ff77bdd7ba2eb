-- Words: what a text is found by. Everything here is immutable on purpose, so that generated columns may use it.

-- The text search configuration of a language. Those named here come with Postgres and keep their meaning; any other
-- language is indexed word by word, never left out.
CREATE FUNCTION text_search_configuration(language text) RETURNS regconfig
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE language
        WHEN 'arabic' THEN 'pg_catalog.arabic'::regconfig
        WHEN 'armenian' THEN 'pg_catalog.armenian'::regconfig
        WHEN 'basque' THEN 'pg_catalog.basque'::regconfig
        WHEN 'catalan' THEN 'pg_catalog.catalan'::regconfig
        WHEN 'danish' THEN 'pg_catalog.danish'::regconfig
        WHEN 'dutch' THEN 'pg_catalog.dutch'::regconfig
        WHEN 'english' THEN 'pg_catalog.english'::regconfig
        WHEN 'finnish' THEN 'pg_catalog.finnish'::regconfig
        WHEN 'french' THEN 'pg_catalog.french'::regconfig
        WHEN 'german' THEN 'pg_catalog.german'::regconfig
        WHEN 'greek' THEN 'pg_catalog.greek'::regconfig
        WHEN 'hindi' THEN 'pg_catalog.hindi'::regconfig
        WHEN 'hungarian' THEN 'pg_catalog.hungarian'::regconfig
        WHEN 'indonesian' THEN 'pg_catalog.indonesian'::regconfig
        WHEN 'irish' THEN 'pg_catalog.irish'::regconfig
        WHEN 'italian' THEN 'pg_catalog.italian'::regconfig
        WHEN 'lithuanian' THEN 'pg_catalog.lithuanian'::regconfig
        WHEN 'nepali' THEN 'pg_catalog.nepali'::regconfig
        WHEN 'norwegian' THEN 'pg_catalog.norwegian'::regconfig
        WHEN 'portuguese' THEN 'pg_catalog.portuguese'::regconfig
        WHEN 'romanian' THEN 'pg_catalog.romanian'::regconfig
        WHEN 'russian' THEN 'pg_catalog.russian'::regconfig
        WHEN 'serbian' THEN 'pg_catalog.serbian'::regconfig
        WHEN 'spanish' THEN 'pg_catalog.spanish'::regconfig
        WHEN 'swedish' THEN 'pg_catalog.swedish'::regconfig
        WHEN 'tamil' THEN 'pg_catalog.tamil'::regconfig
        WHEN 'turkish' THEN 'pg_catalog.turkish'::regconfig
        WHEN 'yiddish' THEN 'pg_catalog.yiddish'::regconfig
        ELSE 'pg_catalog.simple'::regconfig
    END;

-- A text with its words apart: "1,000" is one number; dots, colons, slashes, "@" and "#" inside a word, and a hyphen
-- before a number, part it. Positions stay those of the words, so phrases are found.
CREATE FUNCTION words_apart(content text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT
    RETURN regexp_replace(
        regexp_replace(content, '(\d),(?=\d{3}(?!\d))', '\1', 'g'),
        '([[:alpha:]])[.]+(?=[[:alnum:]])|([[:alnum:]]?)[:/\\@#]+(?=[[:alnum:]])|([[:alnum:]]?)-(?=\d)', '\1\2\3 ', 'g');

-- Other ways in which people write the identifiers of a text, so that get_user_id, getUserId and "get user id" find each
-- other, and OPS-1234 is found as ops1234: identifiers joined into one word, and camelCase as its parts.
CREATE FUNCTION identifier_words(content text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT
    RETURN (
        SELECT string_agg(
            CASE WHEN found[1] ~ '[^[:alnum:]]' THEN regexp_replace(found[1], '[^[:alnum:]]+', '', 'g') || ' ' ELSE '' END
            || CASE
                WHEN found[1] ~ '[[:lower:]]{2}[[:upper:]]|[[:upper:]]{2}[[:lower:]]{2}' THEN regexp_replace(
                    found[1],
                    '([[:lower:]]{2})(?=[[:upper:]])|([[:upper:]])(?=[[:upper:]][[:lower:]]{2})|[^[:alnum:]]+', '\1\2 ', 'g'
                )
                ELSE ''
            END,
            ' '
        )
        FROM regexp_matches(
            content,
            '([[:alnum:]]+(?:[_.:/\\@#]+[[:alnum:]]+)+|[[:alpha:]]+-\d+[[:alnum:]]*'
            '|[[:alnum:]]*(?:[[:lower:]]{2}[[:upper:]]|[[:upper:]]{2}[[:lower:]]{2})[[:alnum:]]*)', 'g'
        ) AS found
    );

-- The words of a text as they are indexed and looked for. Most turns and most words have nothing to part.
CREATE FUNCTION text_lexemes(language text, content text) RETURNS tsvector
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN to_tsvector(
        text_search_configuration(language),
        CASE
            WHEN content ~ ('[[:alnum:]][_.:/\\@#]+[[:alnum:]]|-\d|\d,\d{3}'
                            '|[[:lower:]]{2}[[:upper:]]|[[:upper:]]{2}[[:lower:]]{2}')
                THEN words_apart(content) || COALESCE(' ' || identifier_words(content), '')
            ELSE content
        END
    );

-- A query may say what must and must not occur: "exact words" together; -word and -"exact words" nowhere. A hyphen counts
-- at the start of a word that begins with a letter, so that -5 is a number.

-- The words of a query, any of which may match, in every given language; without what must not occur.
CREATE FUNCTION query_lexemes(languages text[], query text) RETURNS text[]
    LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT
    RETURN (
        SELECT array_agg(DISTINCT word.lexeme)
        FROM unnest(languages) AS language
        CROSS JOIN LATERAL unnest(text_lexemes(
            language, regexp_replace(query, '(?<!\S)-(?=[[:alpha:]"])("[^"]*"|\S+)', ' ', 'g')
        )) AS word
    );

-- What a query says must stand together, word for word, in lower case with single blanks; NULL when nothing.
CREATE FUNCTION query_phrases(query text) RETURNS text[]
    LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT
    RETURN (
        SELECT array_agg(lower(btrim(regexp_replace(found[2], '\s+', ' ', 'g'))))
        FROM regexp_matches(query, '((?<!\S)-)?"([^"]*)"', 'g') AS found
        WHERE found[1] IS NULL AND found[2] ~ '\S'
    );

-- What a query demands and rules out, as a condition on lexemes that an index can answer; NULL when it does neither.
CREATE FUNCTION query_condition(languages text[], query text) RETURNS tsquery
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE STRICT
    SET client_min_messages = error  -- Postgres finds phrases of stop words alone worth a notice
    AS $$
DECLARE
    part record;
    wanted tsquery;
    condition tsquery;
BEGIN
    FOR part IN
        SELECT
            COALESCE(parsed[1], '') = '-' AS excluded,
            (
                SELECT array_agg(phrase)
                FROM unnest(languages) AS language
                CROSS JOIN LATERAL phraseto_tsquery(
                    text_search_configuration(language), words_apart(COALESCE(parsed[2], parsed[3]))
                ) AS phrase
                WHERE numnode(phrase) > 0
            ) AS phrases
        FROM regexp_matches(
            query, '(?:(?<!\S)(-)(?=[[:alpha:]"]))?(?:"([^"]*)"|(?<=(?:^|\s)-)([[:alpha:]]\S*))', 'g'
        ) AS parsed
    LOOP
        CONTINUE WHEN part.phrases IS NULL;
        wanted := part.phrases[1];
        FOR place IN 2..cardinality(part.phrases) LOOP
            wanted := wanted || part.phrases[place];
        END LOOP;
        IF part.excluded THEN
            wanted := !!wanted;
        END IF;
        condition := CASE WHEN condition IS NULL THEN wanted ELSE condition && wanted END;
    END LOOP;
    RETURN condition;
END
$$;

-- Whether a text holds every phrase, as query_phrases gives them.
CREATE FUNCTION holds_phrases(content text, phrases text[]) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT
    RETURN (
        SELECT bool_and(position(phrase IN lower(regexp_replace(content, '\s+', ' ', 'g'))) > 0)
        FROM unnest(phrases) AS phrase
    );

-- How often a word is in a text. ts_rank with equal weights gives H(n) / 1.64493406685 for one word that occurs n times,
-- H(n) being the sum of 1 / i^2 (calc_rank_or in Postgres' tsrank.c). H(n) = pi^2 / 6 - 1 / (n + 1/2) to well within half
-- of what one more occurrence adds, so that solving for n and rounding gives n.
CREATE FUNCTION term_frequency(words tsvector, word tsquery) RETURNS double precision
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN round(
        1 / (1.6449340668482264 - least(ts_rank('{1,1,1,1}', words, word)::double precision * 1.64493406685, 1.6449)) - 0.5
    );

-- BM25 (Robertson and Zaragoza, "The Probabilistic Relevance Framework", 2009) with the usual k1 = 1.2 and b = 0.75, of
-- one word. The weight is that of the word, from inverse_document_frequency; length and average_length count different
-- words, which long texts repeat.
CREATE FUNCTION bm25(weight double precision, frequency double precision, length double precision,
                     average_length double precision) RETURNS double precision
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN weight * 2.2 * frequency / (frequency + 1.2 * (0.25 + 0.75 * length / average_length));

-- What a word that is in so many of so many texts tells (the form that is never negative).
CREATE FUNCTION inverse_document_frequency(text_count double precision, containing double precision)
    RETURNS double precision
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN ln(1 + (text_count - containing + 0.5) / (containing + 0.5));
